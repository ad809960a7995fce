"""Decide who may submit a run, and who may run it, by exclusive creation of small files, nothing else.

Two races are settled here. Neither needs a lock that works across hosts: a link onto a name that must not
exist, hard or symbolic, is atomic on local file systems, NFS and Lustre alike.

*Reservations* (``reservations/<run>~<k>``) decide which command line submits a run. Slot ``k`` may be
taken only when the ticket of slot ``k-1`` has ended or is void, and taking it is exclusive; so two terminals
never both submit a run, and a command line that died between two lines leaves its ticket's name behind,
by which the next one voids it. The reservations of one submission are hard links to one file that lists its
runs: whole as soon as they exist, in one call to the file system each, and none of them takes an inode.

*Claims* (``claims/<ticket>``) decide whether a ticket may run: the job that starts creates it (``run``),
or a command line that voids the ticket (``void``). Whoever comes second stops.
"""

from __future__ import annotations

import errno
import glob
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from ddqjobs.base import files
from ddqjobs.base.frozen import Frozen, Owner
from ddqjobs.base.process import alive, myself
from ddqjobs.detect.files import flush
from ddqjobs.store.layout import Layout
from ddqjobs.store.ledger import ticket_of

_VOID = b"void\n"
_LINKS = 10_000  # of one file; file systems allow 32,000 and more


class Tickets(NamedTuple):
    """The tickets that the ledger has of a run, and those of them that ended."""

    known: frozenset[str]
    ended: frozenset[str]


TicketsOf = Callable[[str], Tickets]
BEING_SUBMITTED = "being submitted by process"
SUBMITTED_MEANWHILE = "another terminal submitted it meanwhile"


class Reservation(Frozen, frozen=True, kw_only=True):
    """The content of a reservation: the ticket that will run, and the process that is submitting it."""

    ticket: str
    owner: Owner


class _Content(Frozen, frozen=True, kw_only=True):
    """The file of a reservation: the runs of its submission, by element index."""

    token: str
    owner: Owner
    runs: list[str]
    first: int = 0  # index of the first one


class Claims:
    """The claims and reservations of one experiment, below its results folder."""

    def __init__(self, folder: Path) -> None:
        self.claims = Layout(folder).claims
        self.reservations = Layout(folder).reservations

    def path(self, ticket: str) -> Path:
        """The claim's file; the job re-reads it before every checkpoint and product."""
        return self.claims / ticket

    def holder(self, ticket: str) -> str:
        """``"run"``, ``"void"``, or an empty string when nobody has claimed the ticket."""
        try:
            return self.path(ticket).read_text(errors="replace").partition("\n")[0]
        except FileNotFoundError:
            return ""

    def job(self, ticket: str) -> str:
        """Return the job that has claimed a ticket; ``"unknown"`` where the claim does not tell. Raises
        OSError."""
        lines = self.path(ticket).read_text(errors="replace").splitlines()
        return lines[1] if len(lines) > 1 else "unknown"

    def take(self, ticket: str, text: str) -> bool:
        """Claim a ticket for what the first line of ``text`` says; False if it is claimed."""
        self.claims.mkdir(parents=True, exist_ok=True)
        return files.create(self.path(ticket), text.encode())

    def void(self, ticket: str) -> bool:
        """Makes sure that the ticket never starts. False if its job has started already."""
        # On disk before anybody is told: the run is submitted again next, and this job may come any time.
        if self.take(ticket, _VOID.decode()):
            return True
        return self.holder(ticket) == "void"

    def revoke(self, tickets: Iterable[str]) -> None:
        """Take the right to run away from tickets whose jobs have ended without a product, in case they are
        ever started again. All become links to one file, so that two flushes serve for many. Raise
        OSError."""
        names = list(tickets)
        if not names:
            return
        self.claims.mkdir(parents=True, exist_ok=True)
        stock = self.claims / f".void.{os.getpid()}-{os.urandom(4).hex()}"
        try:
            for first in range(0, len(names), _LINKS):
                stock.unlink(missing_ok=True)
                stock.write_bytes(_VOID)
                flush(stock)
                for name in names[first : first + _LINKS]:
                    self._link_void(name, stock)
        finally:
            stock.unlink(missing_ok=True)
        flush(self.claims)

    def _link_void(self, ticket: str, stock: Path) -> None:
        path = self.path(ticket)
        try:
            os.link(stock, path)
        except FileExistsError:
            if self.holder(ticket) != "void":
                beside = stock.with_name(f"{stock.name}.{ticket}")
                os.link(stock, beside)
                beside.replace(path)

    def sheet(self, token: str, runs: Sequence[str], first: int = 0) -> Sheet:
        """For the reservations of a submission of these runs, in this order, from an index on."""
        return Sheet(self.reservations, token, runs, myself(), first)

    def reserve(
        self, run: str, sheet: Sheet, past: frozenset[str], tickets_of: TicketsOf, patience_s: float
    ) -> str:
        """Reserves ``run`` for its ticket of the sheet. Returns an empty string on success; else why not, and
        the sheet is without it.

        ``past`` are the run's tickets that had ended when it was decided to submit it again: each had one
        slot, so as many slots are past. ``tickets_of`` reads the ledger afresh. A ticket found in a slot but
        not in the ledger belongs to a submission in the making: if its process lives, the run is left to it;
        if not, nobody can write its intent any more, so the ticket is voided and the next slot is tried. A
        process on another host counts as alive for ``patience_s`` seconds.
        """
        slot = len(past)
        while True:
            path = self.reservations / f"{run}~{slot}"
            if sheet.take(path, run):
                return ""
            refusal = self._refusal(path, past, tickets_of, run, patience_s)
            if refusal:
                sheet.drop(run)
                return refusal
            slot += 1

    def abandoned(self, token: str, run: str, patience_s: float) -> bool:
        """Return whether the process that reserved a run for a submission is no more, so that it records
        nothing any more. One on another host counts as alive for ``patience_s`` seconds."""
        for path in self.reservations.glob(f"{glob.escape(run)}~*"):
            taken = _read(path, run)
            if taken is not None and taken.ticket.rpartition(".")[0] == token:
                return not self._living(taken, path, patience_s)
        return False

    def _living(self, taken: Reservation, path: Path, patience_s: float) -> bool:
        here = taken.owner.host == myself().host
        return alive(taken.owner) and (here or _age_s(path) < patience_s)

    def _refusal(
        self, path: Path, past: frozenset[str], tickets_of: TicketsOf, run: str, patience_s: float
    ) -> str:
        """Return why the slot after ``path`` may not be taken; empty if its ticket will never run (again)."""
        taken = _read(path, run)
        if taken is None:
            return f"its reservation {path} cannot be read; remove it if nobody else is submitting"
        if taken.ticket in past:
            return ""
        if self.holder(taken.ticket) == "void":
            return ""
        me = myself()  # our own are of a submission that failed on its way
        living = taken.owner != me and self._living(taken, path, patience_s)
        tickets = tickets_of(run)  # after looking at the process: what it wrote before it died is seen
        if taken.ticket in tickets.ended:
            return SUBMITTED_MEANWHILE  # after the decision that is being carried out here: it is out of date
        if taken.ticket in tickets.known:
            return "another terminal submitted it a moment ago"
        if living:
            return f"{BEING_SUBMITTED} {taken.owner.pid} on {taken.owner.host}"
        if not self.void(taken.ticket):
            return "its job has started although its submission was not recorded"
        return ""


class Sheet:
    """The file that the reservations of one submission are links to, and the runs of it that are left.

    A run's place in the list, from the first index on, is its element's index. Where one is refused, those
    after it move up: they are links to a new file, while those before it stay where they are in both.
    """

    def __init__(self, folder: Path, token: str, runs: Sequence[str], owner: Owner, first: int = 0) -> None:
        self._folder = folder
        self._content = _Content(token=token, owner=owner, runs=list(runs), first=first)
        self._file: Path | None = None  # made when it is needed, under a name of its own
        self._links = 0

    def __enter__(self) -> Sheet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._leave()

    @property
    def runs(self) -> list[str]:
        """By element index: those that were not refused."""
        return self._content.runs

    def take(self, path: Path, run: str) -> bool:
        """Makes a run's reservation unless there is one. True if it is this one. Raises OSError."""
        if self._file is None and os.path.lexists(path):
            return False
        file = self._file or self._write()
        try:
            # Bare os.link: Path.hardlink_to takes three times as long.
            os.link(file, path)
        except FileExistsError:
            # An NFS client whose first answer was lost asks again, and hears that its own link exists.
            return _read(path, run) == _reservation(self._content, run)
        except OSError as full:
            if full.errno != errno.EMLINK or not self._links:
                raise
            self._leave()  # a file has only so many links: the next ones are of another
            return self.take(path, run)
        self._links += 1
        return True

    def drop(self, run: str) -> None:
        """It is another's."""
        self._content.runs.remove(run)
        self._leave()

    def _write(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f".{self._content.token}.{os.getpid()}.{os.urandom(4).hex()}"
        self._file = path  # also half of one goes
        path.write_bytes(msgspec.json.encode(self._content))
        flush(path)  # no power failure leaves links to an empty file
        return path

    def _leave(self) -> None:
        """Takes the file's own name away; it lives as long as it has links."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        self._file, self._links = None, 0


def _read(path: Path, run: str) -> Reservation | None:
    try:
        return _reservation(msgspec.json.decode(path.read_bytes(), type=_Content), run)
    except (OSError, msgspec.MsgspecError, ValueError):  # the last one: the run is not listed
        return None


def _reservation(content: _Content, run: str) -> Reservation:
    index = content.first + content.runs.index(run)
    return Reservation(ticket=ticket_of(content.token, index), owner=content.owner)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0
