"""Runs, their history and what is on disk become a plan: each run's status **and the reason**. Pure."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ddqjobs.planning import digest as digests
from ddqjobs.planning import retries
from ddqjobs.spec.model import WAITS, Adoption, JobState, Plan, PlannedRun, Run, Status, TaskKind
from ddqjobs.store.history import History, RunHistory, Ticket
from ddqjobs.store.ledger import Finished


class Elsewhere(NamedTuple):
    """A ticket of which the view from here proves nothing."""

    owner: str
    reason: str


def build(
    runs: Iterable[Run],
    history: History,
    *,
    experiment: str,
    site: str,
    missing: Collection[str] = (),
    blocked: Mapping[str, str] | None = None,
    elsewhere: Mapping[str, Elsewhere] | None = None,
) -> Plan:
    """The plan of an experiment.

    ``runs`` come upstream first. ``missing`` names done runs whose product is no longer on disk; ``blocked``
    gives reasons why a run waits although nothing that it needs is missing; ``elsewhere`` has the tickets of
    which only their owners' view tells more.
    """
    planned: dict[str, PlannedRun] = {}
    recorded: dict[str, str] = {}  # digests of results that still count, though today's would be others
    for run in runs:
        now = _on_what_is_recorded(run, planned, recorded)
        story = history.of(run.name)
        planned[run.name] = result = _plan_run(now, story, planned, missing, blocked or {}, elsewhere or {})
        current = result.status is Status.DONE and not result.stale
        digest = story.done.product.digest if current and story.done and story.done.product else now.digest
        if digest != run.digest:
            recorded[run.name] = digest
    return Plan(experiment=experiment, site=site, runs=tuple(planned.values()))


def _on_what_is_recorded(run: Run, planned: Mapping[str, PlannedRun], recorded: Mapping[str, str]) -> Run:
    """Return the run with the digests of the upstream results that it reads, or has read: one of a former
    format counts as today's until something else says that it changed."""
    if recorded.keys().isdisjoint(run.upstream):
        return run
    return digests.with_upstream(run, {u: recorded.get(u, planned[u].run.digest) for u in run.upstream})


def _plan_run(
    run: Run,
    story: RunHistory,
    planned: Mapping[str, PlannedRun],
    missing: Collection[str],
    blocked: Mapping[str, str],
    elsewhere: Mapping[str, Elsewhere],
) -> PlannedRun:
    active = story.active
    if active is not None:
        current = _active(run, story, active, elsewhere.get(active.name))
        needs = [up for up in run.upstream if planned[up].status is Status.ACTIVE]
        return msgspec.structs.replace(current, reason=_named(current.reason, needs)) if needs else current
    if story.done is not None:
        return _done(run, story, story.done, missing)
    retry = retries.after(run, story.failures)
    held = "" if retry and not retry.allowed else blocked.get(run.name) or _waiting(run, planned)
    if retry and not held:
        status, reason = Status.ELIGIBLE if retry.allowed else Status.FAILED, retry.reason
    else:
        status, reason = Status.WAITING if held else Status.ELIGIBLE, held or _eligible_reason(run)
    return PlannedRun(
        run=run,
        status=status,
        reason=reason,
        blocked=bool(held) and run.name in blocked,
        attempts=_attempts(story),
        submissions=len(story.tickets),
        failure=retry.failure if retry and not held else None,
        changed=_changed(run, story) if status is Status.FAILED else (),
    )


def _changed(run: Run, story: RunHistory) -> tuple[str, ...]:
    """Return the parts of a run that are others than those of its last attempt."""
    return digests.changed(story.tickets[-1].digest, run.digest)


def _named(reason: str, needs: Sequence[str]) -> str:
    """Return a reason with the runs that are waited for, where a scheduler says that some are."""
    waiting = f"waits for {needs[0]}" + (f" and {len(needs) - 1} more" if needs[1:] else "")
    return reason.replace(WAITS, waiting)


def _eligible_reason(run: Run) -> str:
    if run.optional:
        return "optional: submitted only when named"
    return "ready: needs no earlier run" if not run.upstream else "ready: all earlier runs it needs are done"


def _attempts(story: RunHistory) -> int:
    return max((t.finished.attempts for t in story.tickets if t.finished), default=0) if story.tickets else 0


def _active(run: Run, story: RunHistory, ticket: Ticket, elsewhere: Elsewhere | None = None) -> PlannedRun:
    reasons = {
        JobState.QUEUED: "queued",
        JobState.RUNNING: f"running on {ticket.node}" if ticket.node else "running",
        JobState.HELD: "held; `ddqjobs release` lets it start",
        JobState.STOPPED: "suspended by the scheduler",
        JobState.ENDED: "ended; waiting for its evidence to appear",
    }
    if elsewhere is not None:
        reason = elsewhere.reason
    elif not ticket.job:
        reason = f"submission not confirmed: {ticket.detail or 'its process has not finished'}"
    elif ticket.state is None:
        reason = "submitted; the scheduler has not been asked yet"
    elif ticket.state is JobState.UNKNOWN:
        reason = f"unknown since {_clock(ticket.since)}, {ticket.detail or 'the scheduler does not show it'}"
    else:
        reason = reasons[ticket.state] + (f": {ticket.detail}" if ticket.detail else "")
    if ticket.cancelled:
        reason = f"cancel requested; {reason}"
    return PlannedRun(
        run=run,
        status=Status.ACTIVE,
        reason=reason,
        ticket=ticket.name,
        job=ticket.job,
        state=ticket.state,
        node=ticket.node,
        attempts=_attempts(story),
        submissions=len(story.tickets),
        since=ticket.since or ticket.at,
        owner=elsewhere.owner if elsewhere is not None else "",
    )


def stray(
    ticket: Ticket, story: RunHistory, experiment: str, elsewhere: Elsewhere | None = None
) -> PlannedRun:
    """A run that is active, and of which only the name is known: the experiment no longer has it."""
    task = ticket.run.partition(".")[0]
    run = Run(name=ticket.run, experiment=experiment, task=task, kind=TaskKind.SMOKE, optional=True)
    return _active(run, story, ticket, elsewhere)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _done(run: Run, story: RunHistory, end: Finished, missing: Collection[str]) -> PlannedRun:
    assert end.product is not None
    notes = [end.note] if end.note else []
    reason = "product is there"
    if end.product.adopted_from:
        reason = f"adopted from {end.product.adopted_from}"
    gone, stale, accepted = run.name in missing, "", ""
    if gone:
        reason = "product missing: it was recorded done, and its files have vanished since"
        stale = f"{reason}; `ddqjobs submit {run.experiment} --stale {run.name}` makes it again"
    elif end.product.digest != run.digest:
        parts = digests.changed(end.product.digest, run.digest)
        if parts:
            accepted = _accepted(story, end, run)
        if parts and not accepted:
            stale = f"stale: {' and '.join(parts)} changed since it ran"
        elif not parts:
            notes.append(_not_compared(end.product.digest, run.digest))
    adoption = end.product.adoption
    if adoption is not None and adoption.because:
        accepted = "; ".join(filter(None, [_exception(adoption), accepted]))
    if adoption is not None and adoption.unverified:
        notes.append(f"unverified: {', '.join(adoption.unverified)}")
    latest = story.failures[-1] if story.failures else None
    ticket = next((t for t in story.tickets if t.name == end.ticket), None)
    if latest is not None:
        notes.append(f"a later repeat failed: {latest.reason}")
    return PlannedRun(
        run=run,
        status=Status.DONE,
        reason=reason,
        ticket=end.ticket,
        job=ticket.job if ticket else "",
        node=ticket.node if ticket else "",
        attempts=max(end.attempts, _attempts(story)),
        submissions=len(story.tickets),
        gone=gone,
        stale=stale,
        accepted=accepted,
        notes=(*([f"accepted {accepted}"] if accepted else []), *notes),
        since=end.at,
    )


def _accepted(story: RunHistory, end: Finished, run: Run) -> str:
    """Return who declared this very result valid for this very run, when, although what, and why."""
    acceptance = story.accepted
    if acceptance is None or (acceptance.ticket, acceptance.digest) != (end.ticket, run.digest):
        return ""
    parts = " and ".join(acceptance.parts)
    return f"by {acceptance.by} on {_clock(acceptance.at)[:10]}, though {parts} changed: {acceptance.because}"


def _exception(adoption: Adoption) -> str:
    """Return who took in a result that differs from its run, when, although what, and why."""
    differences = ", ".join(adoption.differences)
    return f"by {adoption.by} on {_clock(adoption.at)[:10]}, though {differences}: {adoption.because}"


def _not_compared(old: str, new: str) -> str:
    left = [part for part in digests.PARTS if part not in digests.compared(old, new)]
    return f"recorded in digest format {digests.format_of(old)}: {', '.join(left)} not compared"


def _waiting(run: Run, planned: Mapping[str, PlannedRun]) -> str:
    """Return what a run still waits for, or an empty string."""
    for name in run.upstream:
        upstream = planned[name]
        if upstream.gone:
            return f"needs {name}, whose product is gone"
        if upstream.stale:
            return (
                f"needs {name}, which is stale; `ddqjobs submit {run.experiment} --stale {name}` runs it "
                f"again, `ddqjobs accept {run.experiment} {name} --because TEXT` lets it stand"
            )
        if upstream.status is Status.DONE:
            continue
        if upstream.status is Status.FAILED:
            return f"needs {name}, which failed ({upstream.failure.value if upstream.failure else 'unknown'})"
        if upstream.run.optional and upstream.status is not Status.ACTIVE:
            return f"needs {name}, which is optional and not submitted"
        return f"needs {name}, which is {upstream.status.value}"
    return ""


def full(limit: int) -> str:
    """Return why a run is not submitted although nothing that it needs is missing: the site's queue is
    full."""
    return f"site limit {limit} jobs in queue"


def with_full_queue(plan: Plan, limit: int) -> Plan:
    """The plan of a site whose queue takes no more jobs: those that only this holds up say so."""
    held = (planned.status is Status.ELIGIBLE and not planned.run.optional for planned in plan.runs)
    runs = (
        msgspec.structs.replace(planned, reason=full(limit)) if only_this else planned
        for planned, only_this in zip(plan.runs, held, strict=True)
    )
    return msgspec.structs.replace(plan, runs=tuple(runs))


def submittable(
    plan: Plan, chosen: Collection[str], *, graph: bool, stale: Collection[str] = ()
) -> tuple[PlannedRun, ...]:
    """The runs that may be submitted now, upstream first.

    ``chosen`` are the names that the user's filters leave. With ``graph`` (the scheduler knows dependencies)
    runs come along whose upstream runs are done, active, or among these. ``stale`` are those of them
    that are to be submitted once more where they are done and stale.
    """
    taken: dict[str, PlannedRun] = {}
    by_name = {planned.run.name: planned for planned in plan.runs}
    for planned in plan.runs:
        name = planned.run.name
        if name not in chosen or planned.blocked:
            continue
        again = name in stale and planned.status is Status.DONE and bool(planned.stale)
        ready = planned.status is Status.ELIGIBLE
        if graph and (planned.status is Status.WAITING or again):
            ready = all(
                up in taken or counts(by_name[up]) or by_name[up].status is Status.ACTIVE
                for up in planned.run.upstream
            )
        elif again:
            upstream = [by_name[up] for up in planned.run.upstream]
            ready = all(counts(u) and u.run.name not in taken for u in upstream)
        if ready:
            taken[name] = planned
    return tuple(taken.values())


def on_stale(plan: Plan, names: Collection[str]) -> bool:
    """Tell whether one of these runs needs, directly or not, a run that is stale."""
    by_name = {planned.run.name: planned for planned in plan.runs}
    needed: dict[str, None] = {}
    queue = [*names]
    while queue:
        new = [up for up in by_name[queue.pop()].run.upstream if up in by_name and up not in needed]
        needed.update(dict.fromkeys(new))
        queue += new
    return any(by_name[name].stale for name in needed)


def counts(planned: PlannedRun) -> bool:
    """Tell whether a run's result may be built on: it is there, and is of today's digest."""
    return planned.status is Status.DONE and not planned.gone and not planned.stale
