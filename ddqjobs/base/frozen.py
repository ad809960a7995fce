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


class Member(Frozen, frozen=True, kw_only=True):
    """Whoever submits: a user, and the cluster that he submits to."""

    uid: int
    name: str = ""
    host: str = ""
    cluster: str = ""  # as its scheduler names itself; empty where it has no name
