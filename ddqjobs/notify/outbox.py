"""Events that are to be told, on disk: each is recorded before it is sent, and that it was sent afterwards.

::

    notifications/<scope>/<kind>~<k>.json                the k-th event of a kind, created exclusively
    notifications/<scope>/<kind>~<k>~<channel>~<n>       the n-th attempt to send it: who tries, and how long
    notifications/<scope>/<kind>~<k>~<channel>~<n>.failed    why it failed
    notifications/<scope>/<kind>~<k>~<channel>.sent      the channel has taken it
    notifications/<scope>/<kind>~<k>~<channel>.given-up  why it never will

The scope is ``group`` for the channels of a site, whoever submits, and ``user-<uid>`` for a user's own.
A process that dies after the message went and before ``.sent`` leaves its attempt behind: the next one tries
again, so that the message arrives twice, with the same id. Nothing else sends an event twice, because an
attempt is begun only when the one before has failed or its process cannot run any more.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ddqjobs.base import files
from ddqjobs.base.frozen import Frozen, Owner
from ddqjobs.base.process import alive, myself

_EVENT = re.compile(r"([a-z]+)~(\d+)\.json")
_MARGIN_S = 60.0  # that clocks of two hosts may differ
_ENDS = (".sent", ".given-up")


class Event(Frozen, frozen=True, kw_only=True):
    """One thing to tell. ``facts`` are all that is known after it: the next event of its kind differs."""

    kind: str
    title: str
    text: str = ""
    experiment: str = ""
    site: str = ""
    facts: dict[str, str] = msgspec.field(default_factory=dict)
    number: int = 0
    id: str = ""  # the same however often it is sent
    at: float = 0.0
    channels: tuple[str, ...] = ()  # those that it goes to

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.kind}~{self.number}"


class _Attempt(Frozen, frozen=True, kw_only=True):
    owner: Owner
    at: float
    limit_s: float


class Delivery(NamedTuple):
    """An event on its way to a channel."""

    event: Event
    channel: str
    attempts: int = 0
    flying: bool = False  # a process is sending it
    failed_at: float = 0.0
    why: str = ""


class Outbox:
    """The events of one scope."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events: dict[str, Event] = {}  # by file; they never change

    def heads(self) -> dict[str, Event]:
        """Return the newest event of each kind."""
        newest: dict[str, Event] = {}
        for event in self._read(self._names()):
            newest[event.kind] = event
        return newest

    def add(self, event: Event, after: Event | None, channels: Iterable[str]) -> bool:
        """Record an event as the next one of its kind; False if somebody recorded another meanwhile. Raise
        OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = after.number + 1 if after else 0
        unique = f"{event.experiment}-{event.kind}-{number}-{uuid.uuid4().hex[:12]}"
        whole = msgspec.structs.replace(
            event, number=number, id=unique, at=time.time(), channels=tuple(channels)
        )
        return files.create(self.folder / f"{whole.name}.json", msgspec.json.encode(whole))

    def pending(self, channels: Iterable[str]) -> list[Delivery]:
        """Return what these channels have not taken yet, oldest first."""
        wanted, names = set(channels), self._names()
        return [
            self._delivery(event, channel, names)
            for event in sorted(self._read(names), key=lambda event: event.at)
            for channel in event.channels
            if channel in wanted and not any(f"{event.name}~{channel}{end}" in names for end in _ENDS)
        ]

    def given_up(self, channels: Iterable[str]) -> Iterator[Delivery]:
        """Yield what these channels will never get, why, and since when."""
        wanted, names = set(channels), self._names()
        for event in self._read(names):
            for channel in event.channels:
                name = f"{event.name}~{channel}.given-up"
                if channel in wanted and name in names:
                    path = self.folder / name
                    yield Delivery(event, channel, failed_at=path.stat().st_mtime, why=path.read_text())

    def begin(self, delivery: Delivery, limit_s: float) -> bool:
        """Record that we try to send it now; False if another process does. Raise OSError."""
        if delivery.flying:
            return False
        attempt = _Attempt(owner=myself(), at=time.time(), limit_s=limit_s)
        return files.create(self._path(delivery), msgspec.json.encode(attempt))

    def sent(self, delivery: Delivery) -> None:
        """Record that the channel has taken it. Raise OSError."""
        files.create(self.folder / f"{delivery.event.name}~{delivery.channel}.sent", b"")

    def give_up(self, delivery: Delivery, why: str) -> None:
        """Record that the channel will never get it, so that what comes after it is sent. Raise OSError."""
        files.create(self.folder / f"{delivery.event.name}~{delivery.channel}.given-up", why.encode())

    def failed(self, delivery: Delivery, why: str) -> None:
        """Record that the attempt which we began is over. Raise OSError."""
        files.create(Path(f"{self._path(delivery)}.failed"), why.encode())

    def _path(self, delivery: Delivery) -> Path:
        return self.folder / f"{delivery.event.name}~{delivery.channel}~{delivery.attempts}"

    def _delivery(self, event: Event, channel: str, names: set[str]) -> Delivery:
        start, count = f"{event.name}~{channel}~", 0
        while f"{start}{count}" in names:
            count += 1
        if not count:
            return Delivery(event, channel)
        last = self.folder / f"{start}{count - 1}"
        failed = Path(f"{last}.failed")
        try:
            return Delivery(event, channel, count, False, failed.stat().st_mtime, failed.read_text())
        except FileNotFoundError:
            flying, began = _flying(last)
            return Delivery(event, channel, count, flying, began, "" if flying else "its sender was killed")

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self.folder))  # noqa: PTH208
        except FileNotFoundError:
            return set()

    def _read(self, names: set[str]) -> Iterator[Event]:
        """Yield the events, each kind's in their order; one that cannot be read is left out."""
        matches = (match for name in names if (match := _EVENT.fullmatch(name)))
        for match in sorted(matches, key=lambda match: (match[1], int(match[2]))):
            if match[0] not in self._events:
                try:
                    data = (self.folder / match[0]).read_bytes()
                    self._events[match[0]] = msgspec.json.decode(data, type=Event)
                except (OSError, msgspec.MsgspecError):
                    continue
            yield self._events[match[0]]


def _flying(path: Path) -> tuple[bool, float]:
    """Return whether the process of an attempt may still be sending, and when it began."""
    try:
        attempt = msgspec.json.decode(path.read_bytes(), type=_Attempt)
    except (OSError, msgspec.MsgspecError):
        return False, 0.0
    young = time.time() - attempt.at < attempt.limit_s + _MARGIN_S
    return young and alive(attempt.owner), attempt.at
