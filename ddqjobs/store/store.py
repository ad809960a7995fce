"""One experiment's folder: where things lie, what was submitted, who may run, what jobs left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ddqjobs.base.errors import MissingError, StateError, mend
from ddqjobs.spec.model import FailureClass, PlannedRun, Product
from ddqjobs.store import evidence, results_format
from ddqjobs.store.claims import Claims, Tickets
from ddqjobs.store.history import History, Ticket
from ddqjobs.store.layout import PRODUCT, Layout
from ddqjobs.store.ledger import AnyRecord, Finished, Ledger

_ABANDONED_S = 3600.0  # for how long a process of another host may be at a submission
CALLED_OFF = "cancelled by the user before its submission was confirmed"
CANCELLED_AND_FORGOTTEN = "cancelled by the user; its scheduler does not know the job any more"


class Store:
    """The memory of one experiment. Asks no scheduler."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.ledger = Ledger(self.layout.ledger)
        self.claims = Claims(folder)
        self._history: tuple[list[AnyRecord], History] | None = None

    # -- what the ledger says ---------------------------------------------------------------------------

    def history(self) -> History:
        """Return what the ledger says now."""
        records = self.ledger.read()
        if self._history is None or self._history[0] is not records:
            self._history = (records, History(records))
        return self._history[1]

    def history_at(self, at: float) -> History:
        """Return what the ledger said at a time, in seconds since the epoch."""
        return History([record for record in self.ledger.read() if record.at <= at])

    def tickets_of(self, run: str) -> Tickets:
        """Return the tickets of one run, read afresh."""
        tickets = self.history().of(run).tickets
        return Tickets(frozenset(t.name for t in tickets), frozenset(t.name for t in tickets if t.ended))

    def check(self) -> None:
        """Raise StateError if a newer ddqjobs made this folder, or if there are runs but no ledger."""
        results_format.check(self.layout.root)
        runs = self.layout.runs
        if not self.ledger.exists and runs.is_dir() and any(runs.iterdir()):
            raise StateError(
                f"{self.layout.root}: there are runs but no ledger, so what was submitted is not known. "
                f"Restore {self.layout.ledger}, or move {runs} away and import their results with "
                "`ddqjobs adopt`"
            )

    def unreadable(self) -> list[str]:
        """Return a warning, if lines of the ledger are no records."""
        lines = self.ledger.unreadable
        if not lines:
            return []
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        return [
            f"{self.ledger.folder / lines[0]}{more}: this version cannot read it as a record, and leaves it "
            "out; what it says of submissions is not known. Restore the file if a disk or an editor damaged "
            "it; use the version of ddqjobs that wrote it if that was a newer one"
        ]

    def forget_secrets(self, tokens: Iterable[str]) -> None:
        """Remove the private files of those of these submissions of which nothing is active any more."""
        left = {ticket.token for ticket in self.history().active()}
        for token in {*tokens} - left:
            folder = self.layout.submission(token)
            with contextlib.suppress(OSError):  # another member's
                folder.secret_setup.unlink(missing_ok=True)
                folder.secrets.unlink(missing_ok=True)

    def forget_abandoned(self, *, ended: bool = False) -> None:
        """Remove the folders of submissions that their process left before it recorded them; with ``ended``
        also private files of recorded ones whose runs have ended, which a process that was killed left."""
        known = self.history().tokens
        with contextlib.suppress(OSError):
            names = frozenset(os.listdir(self.layout.submissions))  # noqa: PTH208
            for token in () if self.ledger.unreadable else names - known.keys():
                self._forget_abandoned(token)
            if ended:
                self.forget_secrets(names & known.keys())

    def _forget_abandoned(self, token: str) -> None:
        folder = self.layout.submission(token)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            first = folder.manifest.read_text().partition("\n")[0]
            if (
                folder.path.lstat().st_uid == os.getuid()
                and self.claims.abandoned(token, json.loads(first)["name"], _ABANDONED_S)
                and token not in self.history().tokens  # read after the process was seen to be no more
            ):
                shutil.rmtree(folder.path)

    # -- what jobs left ---------------------------------------------------------------------------------

    def run_dir(self, run: str) -> Path:
        """Return the folder of a run."""
        return self.layout.run(run).path

    def run_folders(self) -> frozenset[str]:
        """Return the names of the runs that have a folder, by one question instead of several for each run.
        Empty where that cannot be asked."""
        try:
            return frozenset(os.listdir(self.layout.runs))  # noqa: PTH208
        except OSError:
            return frozenset()

    def products(self, history: History) -> dict[str, Product]:
        """Return run -> product of every done run, as recorded, unless it has vanished since."""
        gone = self.vanished(history)
        return {
            name: story.done.product
            for name, story in history.runs.items()
            if story.done is not None and story.done.product is not None and name not in gone
        }

    def vanished(self, history: History) -> set[str]:
        """Return the done runs whose product is no longer on disk. What a disk or a folder does not show is
        not gone."""
        gone = set()
        for name, story in history.runs.items():
            if story.done is not None and story.done.product is not None:
                # One question per run: the first artifact, which lies in the attempt that made it.
                kept = next(iter(story.done.product.artifacts.values()), PRODUCT)
                if _gone(self.layout.in_run(name, kept)):
                    gone.add(name)
        return gone

    def log(self, planned: PlannedRun, attempt: int | None = None) -> Path:
        """Return the log of a run's attempt (default: the newest). Raises MissingError."""
        run = planned.run.name
        numbers = evidence.numbers(self.run_dir(run))
        if not numbers:
            raise MissingError(
                f"{run} has not started on any node, so it has no log; "
                f"it is {planned.status.value}: {planned.reason}"
            )
        number = attempt or numbers[-1]
        if number not in numbers:
            raise MissingError(f"{run} has no attempt {number}; there are: {', '.join(map(str, numbers))}")
        return self.layout.run(run).attempt(number).log

    # -- what ends a ticket -----------------------------------------------------------------------------

    def revoke(self, tickets: Iterable[str]) -> None:
        """End the right to run of tickets that are written off: were their jobs started once more, by an
        operator or on a node that came back, they would run beside the jobs that follow them. Raises
        StateError."""
        try:
            self.claims.revoke(tickets)
        except OSError as error:
            folder = self.claims.claims
            raise StateError(
                f"{folder}: {error.strerror}; {mend(error, folder)}, then run the same command again"
            ) from error

    def call_off(self, ticket: Ticket) -> None:
        """See to it that a ticket whose submission is not confirmed never starts, and record that it was
        cancelled. Do nothing if its job has started: the next look finds it."""
        if self.claims.void(ticket.name):
            self._cancelled(ticket, CALLED_OFF)

    def write_off(self, ticket: Ticket) -> None:
        """End a ticket whose job the scheduler does not know any more, as the user wishes. Should the job
        turn up all the same, it has no right to run and leaves nothing."""
        self.revoke([ticket.name])
        self._cancelled(ticket, CANCELLED_AND_FORGOTTEN)

    def _cancelled(self, ticket: Ticket, reason: str) -> None:
        self.ledger.append(
            Finished(run=ticket.run, ticket=ticket.name, failure=FailureClass.CANCELLED, reason=reason)
        )


def _gone(path: str) -> bool:
    """Return whether there is certainly no such file: a server that lost its handles, or a folder that we may
    not read, proves nothing."""
    try:
        os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
