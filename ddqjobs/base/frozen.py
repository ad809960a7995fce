"""The base of all data, and the record that says which process something belongs to."""

from __future__ import annotations

import msgspec


class Frozen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all data. Fields left at their default are not written, so that records stay small."""


class Owner(Frozen, frozen=True, kw_only=True):
    """A process, told apart from every other that ever had its pid."""

    host: str
    pid: int
    start: int  # clock ticks after boot, /proc/PID/stat field 22
    boot: str = ""  # /proc/sys/kernel/random/boot_id
