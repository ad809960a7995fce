"""The ledger: append-only JSON lines, the only memory of what was submitted.

Every process that writes has a segment of its own (``ledger/<host>-<pid>-<start>.jsonl``), so no lock is
needed. Reading sorts records by time. A writer's times never lie before what it has read, so that a record
comes after whatever it answers to, however the clocks of two hosts differ or one is set back. The intent that
must not be lost is fsynced, with its folder, before the scheduler hears of it. A last line that a crash tore
is skipped without a word, for it was never acted upon; any other line that is no record is named
(``unreadable``): a disk, an editor or a newer ddqjobs put it there.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ddqjobs.base.errors import StateError, mend
from ddqjobs.base.frozen import Frozen, Member
from ddqjobs.base.process import myself
from ddqjobs.spec.model import FailureClass, JobState, Product
from ddqjobs.store import results_format


class Record(Frozen, frozen=True, kw_only=True, tag_field="record", tag=str.lower):
    """Base of all records. ``at`` is seconds since the epoch on the writer's clock, moved on where needed."""

    at: float = 0.0


class Intent(Record, frozen=True, kw_only=True):
    """About to submit: written and synced before the scheduler is called."""

    token: str
    site: str
    scheduler: str
    runs: list[str]  # by element index
    digests: list[str]
    first: int = 0  # index of the first of them
    code: str = ""  # name of the code snapshot
    version: str = ""  # of ddqjobs
    host: str
    pid: int
    start: int
    boot: str = ""
    member: Member | None = None  # not recorded before 0.2


class Wanted(Record, frozen=True, kw_only=True):
    """The user asked for these runs: `advance` submits them when they become eligible."""

    runs: list[str]


class Submitted(Record, frozen=True, kw_only=True):
    """The scheduler took it: element index (as text) -> job id."""

    token: str
    jobs: dict[str, str]


class Voided(Record, frozen=True, kw_only=True):
    """Tickets that will never start."""

    tickets: list[str]
    why: str = ""


class Observed(Record, frozen=True, kw_only=True):
    """A change in what the scheduler says of a ticket."""

    ticket: str
    state: JobState
    detail: str = ""
    node: str = ""


class Finished(Record, frozen=True, kw_only=True):
    """A ticket has ended. With a product the run is done, and stays done."""

    run: str
    ticket: str
    product: Product | None = None
    failure: FailureClass | None = None
    reason: str = ""
    attempts: int = 0
    progress: int = 0  # how far the newest checkpoint is (evidence.progress)
    note: str = ""
    node: str = ""  # where the last attempt ran, by its own word
    started_at: float | None = None
    ended_at: float | None = None


class Cancelled(Record, frozen=True, kw_only=True):
    """The user asked for the end of these tickets."""

    tickets: list[str]


class TakenOver(Record, frozen=True, kw_only=True):
    """A member of the group answers for these tickets from now on, instead of who submitted them."""

    tickets: list[str]
    member: Member
    reason: str


class Retried(Record, frozen=True, kw_only=True):
    """The user wants these runs again: failures before this do not count."""

    runs: list[str]


class Accepted(Record, frozen=True, kw_only=True):
    """A user declares a stale result valid: that of ``ticket``, for a run that now has ``digest``."""

    run: str
    ticket: str
    digest: str
    parts: list[str]  # of the digest, that differed
    because: str
    by: str


class Removed(Record, frozen=True, kw_only=True):
    """A user removed what these runs left: nothing before this counts, and nobody asks for them any more."""

    runs: list[str]


AnyRecord = (
    Intent
    | Wanted
    | Submitted
    | Voided
    | Observed
    | Finished
    | Cancelled
    | TakenOver
    | Retried
    | Accepted
    | Removed
)
_DECODER: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)
_ENCODER = msgspec.json.Encoder()
_TICK_S = 1e-6  # a float of seconds since the epoch can tell these apart


def ticket_of(token: str, index: int) -> str:
    """The name under which element ``index`` of submission ``token`` claims its right to run."""
    return f"{token}.{index}"


class Ledger:
    """Reads all segments; appends to one of its own, made at the first append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = None
        self._closing: weakref.finalize[[int], Ledger] | None = None  # also when the ledger is forgotten
        # segment -> bytes read, lines read, records
        self._parsed: dict[str, tuple[int, int, list[AnyRecord]]] = {}
        self._sorted: list[AnyRecord] = []
        self._latest = 0.0  # of all records read or written
        self.unreadable: list[str] = []  # whole lines that are no records: <segment>:<line>

    def append(self, *records: AnyRecord) -> None:
        """Writes records as whole lines and syncs them. Raises StateError if the disk refuses."""
        text = b"".join(_ENCODER.encode(self._timed(record)) + b"\n" for record in records)
        try:
            if self._file is None:
                self._file = self._open()
                self._closing = weakref.finalize(self, os.close, self._file)
            written = os.write(self._file, text)
            if written != len(text):
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
        except OSError as error:
            self.close()  # the line may be torn: a later record belongs into a new segment
            remedy = mend(error, self.folder)
            raise StateError(
                f"{self.folder}: the ledger cannot be written ({error.strerror}). Nothing is lost: "
                f"{remedy}, then run the same command again; it finds whatever was submitted"
            ) from error

    def close(self) -> None:
        """Closes this process's segment; a later record makes another."""
        if self._closing is not None:
            self._closing()
        self._file = self._closing = None

    def begin(self) -> None:
        """Makes the ledger exist. For what leaves files beside it before its first record."""
        if not self.exists:
            self.append()

    def _timed(self, record: AnyRecord) -> AnyRecord:
        if record.at:
            return record
        self._latest = max(time.time(), self._latest + _TICK_S)
        return msgspec.structs.replace(record, at=self._latest)

    def _open(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        results_format.mark(self.folder.parent)
        me = myself()
        path = self.folder / f"{me.host}-{me.pid}-{me.start}-{os.urandom(3).hex()}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o666)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return file

    def read(self) -> list[AnyRecord]:
        """All whole records of all segments, by time; the same list as long as nothing is new."""
        grown = False
        for path in self._segments():
            start, count, records = self._parsed.get(path.name, (0, 0, []))
            if path.stat().st_size > start:
                with path.open("rb") as file:
                    file.seek(start)
                    data = file.read()
                end = data.rfind(b"\n") + 1
                lines = data[:end].split(b"\n")[:-1]
                fresh = list(self._decode(path.name, count, lines))
                self._latest = max((self._latest, *(r.at for r in fresh)))
                records.extend(fresh)
                self._parsed[path.name] = (start + end, count + len(lines), records)
                grown = grown or end > 0
        if grown:
            every = (r for _, _, records in self._parsed.values() for r in records)
            self._sorted = sorted(every, key=lambda r: r.at)
        return self._sorted

    def _segments(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == ".jsonl")
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _decode(self, segment: str, before: int, lines: Iterable[bytes]) -> Iterable[AnyRecord]:
        for number, line in enumerate(lines, start=before + 1):
            try:
                record = _DECODER.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.unreadable.append(f"{segment}:{number}")
                continue
            if isinstance(record, Intent) and len(record.runs) != len(record.digests):
                self.unreadable.append(f"{segment}:{number}")
            else:
                yield record

    @property
    def exists(self) -> bool:
        """Return whether anything was ever written here."""
        return bool(self._segments())
