"""Tell of what happened in an experiment: record the events of a plan, and start what sends them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from ddqjobs.base import process
from ddqjobs.base.frozen import Owner
from ddqjobs.base.paths import PACKAGE
from ddqjobs.base.units import seconds
from ddqjobs.notify import events
from ddqjobs.notify.outbox import Delivery, Event, Outbox
from ddqjobs.notify.sender import VARIABLE, Order
from ddqjobs.report import document
from ddqjobs.report.reports import Reports
from ddqjobs.report.verdict import Outcome
from ddqjobs.spec.model import Plan, Status
from ddqjobs.spec.notify import Channel
from ddqjobs.submission.workspace import Workspace

Say = Callable[[str], None]
_PATIENCE_S = 1.0  # at the end of a command, to be able to say what was not delivered
_POLL_S = 0.05
# Not with -m: that looks for modules in the working folder first, and a project may have an email.py.
_SENDER = (
    sys.executable,
    "-c",
    "import sys; sys.path = [path for path in sys.path if path] + sys.argv[1:]; "
    "from ddqjobs.notify.sender import main; sys.exit(main())",
    str(PACKAGE.parent),
)
_AGAIN_S = (30.0, 3600.0)  # after which one tries again while one waits: the first time, and at most


class Notifier:
    """Tells the channels of a site and a user of one experiment; ``tell`` hears what was not delivered."""

    def __init__(
        self, workspace: Workspace, reports: Reports, channels: Mapping[str, Mapping[str, Channel]], tell: Say
    ) -> None:
        self._workspace, self._reports, self._channels, self._tell = workspace, reports, channels, tell
        folder = workspace.store.layout.notifications
        self._boxes = {scope: Outbox(folder / scope) for scope in channels}
        # Before the plan is made: who records an event meanwhile knows more than that plan.
        self._heads = {scope: box.heads() for scope, box in self._boxes.items()}
        self._senders: dict[tuple[str, str], Owner] = {}
        self._told: set[str] = set()
        self._began = time.time()
        self._judged: tuple[object, dict[str, str], str] = (None, {}, "")
        self._plan: Plan | None = None
        self._eager = True  # the first time whatever waits is tried, however often it failed

    def look(self, plan: Plan, given_up: Collection[str] = ()) -> None:
        """Record what a plan has to tell, and see that it is sent."""
        try:
            if plan != self._plan or given_up:
                self._record(plan, given_up)
                self._plan = plan
            self._send()
        except OSError as error:
            self._complain(f"notifications cannot be recorded: {error.strerror or error}")

    def finish(self) -> None:
        """Wait a moment for what is being sent, and tell what was not."""
        try:
            self._send()
            until = time.monotonic() + _PATIENCE_S
            while self._is_sending() and time.monotonic() < until:
                time.sleep(_POLL_S)
            for scope, box in self._boxes.items():
                self._say_undelivered(scope, box.pending(self._channels[scope]))
                for given_up in box.given_up(self._channels[scope]):
                    if given_up.failed_at >= self._began:
                        self._complain(f"{_undelivered(given_up)}: {given_up.why}; it is given up")
        except OSError as error:
            self._complain(f"notifications cannot be sent: {error.strerror or error}")

    def _record(self, plan: Plan, given_up: Collection[str]) -> None:
        judged, overall = self._verdicts(plan)
        view = events.View(plan, self._workspace.store.history(), judged, overall, given_up)
        for scope, box in self._boxes.items():
            heads = self._heads[scope]
            for event in events.news(view, heads):
                names = [name for name, channel in self._channels[scope].items() if channel.wants(event.kind)]
                box.add(event, heads.get(event.kind), names)
            self._heads[scope] = box.heads()

    def _verdicts(self, plan: Plan) -> tuple[dict[str, str], str]:
        """Return what is judged -> its outcome, and the overall one; made again only when a run is done."""
        done = frozenset(
            (planned.run.name, planned.ticket, planned.stale)
            for planned in plan.runs
            if planned.status is Status.DONE
        )
        if self._judged[0] != done:
            products = self._workspace.products()
            report = document.build(
                self._workspace.loaded.experiment,
                plan,
                products,
                recomputed=self._reports.files.recomputed(products),
            )
            self._judged = (done, dict(_outcomes(report)), report.overall)
        return self._judged[1], self._judged[2]

    def _send(self) -> None:
        for scope, box in self._boxes.items():
            waiting: set[str] = set()
            for delivery in box.pending(self._channels[scope]):
                if delivery.channel in waiting:  # its oldest event goes first
                    continue
                waiting.add(delivery.channel)
                if self._sends(scope, delivery.channel):
                    continue
                if delivery.why and not self._eager:
                    self._complain(f"{_undelivered(delivery)}: {delivery.why}; it is tried again")
                if self._is_due(delivery):
                    self._start(scope, box, delivery.channel)
        self._eager = False

    def _is_due(self, delivery: Delivery) -> bool:
        if delivery.flying:
            return False
        pause = min(_AGAIN_S[0] * 2 ** max(0, delivery.attempts - 1), _AGAIN_S[1])
        return self._eager or not delivery.attempts or time.time() - delivery.failed_at > pause

    def _start(self, scope: str, box: Outbox, name: str) -> None:
        order = Order(channel=self._channels[scope][name], name=name, folder=str(box.folder))
        pid = start(order, self._workspace.catalog.project)
        try:
            self._senders[scope, name] = process.identify(pid)
        except ProcessLookupError:
            self._senders.pop((scope, name), None)

    def _sends(self, scope: str, name: str) -> bool:
        """Return whether a process that we started for a channel still runs."""
        sender = self._senders.get((scope, name))
        return sender is not None and process.alive(sender)

    def _is_sending(self) -> bool:
        """Return whether a process of ours, or of another terminal, is sending something."""
        return any(
            delivery.flying or self._sends(scope, delivery.channel)
            for scope, box in self._boxes.items()
            for delivery in box.pending(self._channels[scope])
        )

    def _say_undelivered(self, scope: str, pending: list[Delivery]) -> None:
        for name in dict.fromkeys(delivery.channel for delivery in pending):
            first, *others = (delivery for delivery in pending if delivery.channel == name)
            more = f" and {len(others)} more" if others else ""
            if first.flying or self._sends(scope, name):
                self._complain(f"{_undelivered(first)}{more}: no answer yet; it is still being sent")
            else:
                why = first.why or "no answer yet"
                self._complain(f"{_undelivered(first)}{more}: {why}; the next `ddqjobs advance` tries again")

    def _complain(self, complaint: str) -> None:
        if complaint not in self._told:
            self._told.add(complaint)
            self._tell(complaint)


def _undelivered(delivery: Delivery) -> str:
    return f"notification by {delivery.channel} not delivered: '{delivery.event.title}'"


def start(order: Order, project: Path) -> int:
    """Start a process that sends what is pending; return its pid. Raise OSError."""
    return process.spawn_detached(
        _SENDER,
        log=Path(os.devnull),
        env=_environment(order),
        cwd=project,
    )


def try_out(channel: Channel, name: str, project: Path) -> str:
    """Send a message to see whether it arrives; return why it was not delivered, empty if it was."""
    event = Event(
        kind="test",
        title="ddqjobs: a test",
        text="Notifications of ddqjobs arrive here.",
        id=f"test-{os.urandom(6).hex()}",
        at=time.time(),
    )
    limit_s = seconds(channel.timeout) + 5
    done = process.run(
        _SENDER,
        timeout=limit_s,
        env=_environment(Order(channel=channel, name=name, event=event)),
        cwd=project,
    )
    if done.timed_out:
        return f"no answer within {limit_s:.0f} s"
    return done.stdout or ("" if done.code == 0 else "its sender could not run")


def _environment(order: Order) -> dict[str, str]:
    return {**os.environ, VARIABLE: msgspec.json.encode(order).decode()}


def _outcomes(report: document.Report) -> Iterable[tuple[str, str]]:
    """Yield whatever the report judges, and its outcome where it is known."""
    for row in report.models:
        variant = "" if row.variant == "default" else f" {row.variant}"
        for column, cell in zip(report.columns, row.cells, strict=True):
            if cell is not None and cell.judgement.outcome not in (None, Outcome.UNKNOWN):
                parts = (f"phase {column.phase}", column.implementation, column.task)
                where = " ".join(word for word in parts if word)
                yield f"{row.model}{variant} ({where})", str(cell.judgement.outcome.value)
    for aligned in report.alignment:
        if aligned.judgement.outcome not in (None, Outcome.UNKNOWN):
            yield aligned.run, str(aligned.judgement.outcome.value)
