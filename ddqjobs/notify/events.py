"""Decide what there is to tell of a plan: a matrix that ended, a first failure, trainings that diverged, runs
that hung, verdicts that changed. Pure.

Each is told of a *state*, compared with the newest event of its kind, never of a moment that one must not
miss: whoever looks next after a crash finds the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ddqjobs.base.secrets import masked
from ddqjobs.base.text import clean
from ddqjobs.base.units import counted
from ddqjobs.notify.outbox import Event
from ddqjobs.spec.model import FailureClass, Plan, PlannedRun, Status
from ddqjobs.store.history import History

_MOST = 10  # lines of a message
_LONGEST = 500  # characters of a line
_TOLD = "~told"  # among the facts: states of which it was told, the newest last
_KEPT = 50  # of these
_OWN = {FailureClass.DIVERGED: "diverged", FailureClass.HANG: "stuck"}  # they have a kind of their own
_DID = {"diverged": "diverged", "stuck": "logged nothing and was ended"}


@dataclass(frozen=True)
class View:
    """All that events are made of. ``verdicts``: what is judged -> outcome, or None where it is not known;
    ``given_up``: runs that will not be submitted although they are eligible."""

    plan: Plan
    history: History
    verdicts: Mapping[str, str] | None = None
    overall: str = ""
    given_up: Collection[str] = ()


def news(view: View, heads: Mapping[str, Event]) -> Iterator[Event]:
    """Yield what is to be told beyond the newest events of each kind."""
    known = {kind: event.facts for kind, event in heads.items()}
    yield from _failure(view, known.get("failure", {}))
    for failure, kind in _OWN.items():
        yield from _ended_by(view, failure, kind, known.get(kind, {}))
    yield from _verdicts(view, known.get("verdict", {}))
    yield from _end(view, known.get("end", {}))


def _event(view: View, kind: str, facts: dict[str, str], title: str, lines: Iterable[str]) -> Event:
    every = list(lines)
    rest = [f"and {len(every) - _MOST} more"] if len(every) > _MOST else []
    return Event(
        kind=kind,
        experiment=view.plan.experiment,
        site=view.plan.site,
        facts=facts,
        title=masked(clean(f"{view.plan.experiment}: {title}"))[:_LONGEST],
        text="\n".join(masked(clean(line))[:_LONGEST] for line in [*every[:_MOST], *rest]),
    )


def _failure(view: View, known: Mapping[str, str]) -> Iterator[Event]:
    """Yield the first failure since the user last asked for a retry."""
    since = max((story.retried_at for story in view.history.runs.values()), default=0.0)
    failed = [
        (failures[-1].at, planned.run.name, planned)
        for planned in view.plan.runs
        if planned.status is Status.FAILED and not planned.cancelled and planned.failure not in _OWN
        if (failures := view.history.of(planned.run.name).failures) and failures[-1].at > since
    ]
    facts = {"since": f"{since:.6f}"}
    if failed and known != facts:
        _, name, first = min(failed)
        lines = [first.reason, f"`ddqjobs logs {view.plan.experiment} {name}` shows why"]
        yield _event(view, "failure", facts, f"{name} failed", lines)


def _ended_by(view: View, failure: FailureClass, kind: str, known: Mapping[str, str]) -> Iterator[Event]:
    """Yield the attempts that ended for this cause, retried or not."""
    ends = {
        ticket.name: ticket.finished
        for ticket in view.history.tickets.values()
        if ticket.finished is not None and ticket.finished.failure is failure
    }
    fresh = {ticket: end for ticket, end in ends.items() if ticket not in known}
    if fresh:
        names = sorted({end.run for end in fresh.values()})
        who = names[0] if len(names) == 1 else counted(len(names), "run")
        lines = [f"{end.run}: {end.reason}" for end in fresh.values()]
        facts = {ticket: end.run for ticket, end in ends.items()}
        yield _event(view, kind, facts, f"{who} {_DID[kind]}", lines)


def _verdicts(view: View, known: Mapping[str, str]) -> Iterator[Event]:
    """Yield the verdicts that changed. Members whose files differ judge the same results differently: what
    one of them was told with these results is not told again."""
    now, before = view.verdicts, {name: known[name] for name in known if name != _TOLD}
    if now is None or now == before:
        return
    done = (planned for planned in view.plan.runs if planned.status is Status.DONE)
    state = _digest(view.history, done, *(f"{name}={now[name]}" for name in sorted(now)))
    told = known.get(_TOLD, "").split()
    if state in told:
        return
    lines = [
        f"{name}: {before.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in (*now, *(name for name in before if name not in now))
        if before.get(name) != now.get(name)
    ]
    title = f"{counted(len(lines), 'verdict')} changed"
    facts = {**now, _TOLD: " ".join([*told, state][-_KEPT:])}
    yield _event(view, "verdict", facts, title, [*lines[:_MOST], view.overall])


def _end(view: View, known: Mapping[str, str]) -> Iterator[Event]:
    """Yield the end of all runs that somebody asked for."""
    asked = [planned for planned in view.plan.runs if planned.run.name in view.history.wanted]
    going = any(_goes_on(planned, view.given_up) for planned in asked)
    tried = any(view.history.of(planned.run.name).tickets for planned in asked)
    state, told = _digest(view.history, asked), known.get(_TOLD, "").split()
    if going or not tried or state in told:
        return
    facts = {_TOLD: " ".join([*told, state][-_KEPT:])}
    counts = Counter(planned.word for planned in asked)
    tally = ", ".join(f"{count} {word}" for word, count in sorted(counts.items(), key=lambda item: -item[1]))
    lines = [
        f"{planned.run.name}: {planned.word}: {planned.reason}"
        for planned in asked
        if planned.status is Status.FAILED
    ]
    title = f"ended, {tally} of {len(asked)} submitted"  # not of all runs, of which the overall line speaks
    yield _event(view, "end", facts, title, [view.overall, *lines] if view.overall else lines)


def _goes_on(planned: PlannedRun, given_up: Collection[str]) -> bool:
    if planned.status is Status.ELIGIBLE:
        return planned.run.name not in given_up
    return planned.status is Status.ACTIVE


def _digest(history: History, asked: Iterable[PlannedRun], *more: str) -> str:
    lines = list(more)
    for planned in asked:
        tickets = history.of(planned.run.name).tickets
        lines.append(f"{planned.run.name} {planned.word} {tickets[-1].name if tickets else ''}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
