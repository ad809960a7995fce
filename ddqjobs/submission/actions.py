"""Cancel, hold, release and retry submitted runs, and tell which of them are under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from ddqjobs.base.errors import InputError
from ddqjobs.base.secrets import masked
from ddqjobs.schedulers.base import Scheduler
from ddqjobs.spec.model import JobState, Plan, PlannedRun, Status
from ddqjobs.store.ledger import Cancelled, Retried, TakenOver
from ddqjobs.submission.members import refuse
from ddqjobs.submission.workspace import Workspace


def cancel(workspace: Workspace, runs: Sequence[PlannedRun]) -> list[str]:
    """Cancel the active ones among runs, but no other member's; return their names. Raise SchedulerError, and
    StateError if all are others'."""
    refuse([planned for planned in runs if planned.status is Status.ACTIVE], "cancel")
    active = [planned for planned in runs if planned.status is Status.ACTIVE and not planned.owner]
    if not active:
        return []
    store = workspace.store
    tickets = store.history().tickets
    store.ledger.append(Cancelled(tickets=[planned.ticket for planned in active]))
    for planned in active:
        if not planned.job:  # nobody knows yet whether the scheduler has it: it must not start in any case
            store.call_off(tickets[planned.ticket])
    for site, jobs in _by_site(workspace, active).items():
        workspace.scheduler(site).cancel(jobs)
    for planned in active:  # the scheduler answered, and does not know the job: nothing else would end it
        if planned.job and planned.state is JobState.UNKNOWN:
            store.write_off(tickets[planned.ticket])
    store.forget_secrets({tickets[planned.ticket].token for planned in active})
    return [planned.run.name for planned in active]


def hold(workspace: Workspace, plan: Plan, runs: Sequence[PlannedRun]) -> Plan:
    """Keep the queued ones among runs from starting; return these runs as they are afterwards. Raise
    SchedulerError."""
    return _ask(workspace, plan, runs, JobState.QUEUED, lambda scheduler, jobs: scheduler.hold(jobs))


def release(workspace: Workspace, plan: Plan, runs: Sequence[PlannedRun]) -> Plan:
    """Let the held ones among runs start again; return these runs as they are afterwards. Raise
    SchedulerError."""
    return _ask(workspace, plan, runs, JobState.HELD, lambda scheduler, jobs: scheduler.release(jobs))


def retry(workspace: Workspace, runs: Sequence[PlannedRun]) -> list[str]:
    """Make failed or cancelled runs eligible again; return their names."""
    failed = [
        planned.run.name for planned in runs if planned.status is Status.FAILED or planned.failure is not None
    ]
    if failed:
        workspace.store.ledger.append(Retried(runs=failed))
    return failed


def take_over(workspace: Workspace, runs: Sequence[PlannedRun], reason: str) -> dict[str, str]:
    """Answer for the active runs of others from now on; return run -> whose it was. Raise InputError without
    a reason."""
    if not reason.strip():
        raise InputError("--take-over needs a reason, which is recorded")
    theirs = [planned for planned in runs if planned.status is Status.ACTIVE and planned.owner]
    tickets = workspace.store.history().tickets
    for site in dict.fromkeys(tickets[planned.ticket].site for planned in theirs):
        names = [planned.ticket for planned in theirs if tickets[planned.ticket].site == site]
        member = workspace.members.me(site)
        workspace.store.ledger.append(TakenOver(tickets=names, member=member, reason=masked(reason.strip())))
    return {planned.run.name: planned.owner for planned in theirs}


def using(workspaces: Iterable[Workspace], environments: Sequence[str]) -> dict[str, list[str]]:
    """Return environment -> runs, queued or running, that use it. Raise SchedulerError where that cannot be
    asked."""
    by_environment: dict[str, list[str]] = {}
    for workspace in workspaces:
        if not workspace.store.layout.ledger.is_dir():
            continue
        for run in (planned.run for planned in workspace.plan().runs if planned.status is Status.ACTIVE):
            if run.environment in environments:
                by_environment.setdefault(run.environment, []).append(f"{run.experiment}: {run.name}")
    return by_environment


def _ask(
    workspace: Workspace,
    plan: Plan,
    runs: Sequence[PlannedRun],
    state: JobState,
    ask: Callable[[Scheduler, Sequence[str]], None],
) -> Plan:
    """Ask something of the jobs in that state, site by site, and look at them again."""
    alike = [
        planned
        for planned in runs
        if planned.status is Status.ACTIVE and planned.state is state and planned.job
    ]
    refuse(alike, "hold or release")
    asked = [planned for planned in alike if not planned.owner]
    for site, jobs in _by_site(workspace, asked).items():
        ask(workspace.scheduler(site), jobs)
    names = {planned.run.name for planned in runs}
    after = workspace.plan() if asked else plan
    return msgspec.structs.replace(
        after, runs=tuple(planned for planned in after.runs if planned.run.name in names)
    )


def _by_site(workspace: Workspace, runs: Iterable[PlannedRun]) -> dict[str, list[str]]:
    """Return site -> jobs of the runs. A run may have been submitted to another site than today's, and its
    number may be another job's by now. Raise SchedulerError."""
    tickets = workspace.store.history().tickets
    by_site: dict[str, dict[str, str]] = {}
    for planned in runs:
        if planned.job:
            ticket = tickets[planned.ticket]
            by_site.setdefault(ticket.site, {})[planned.job] = ticket.token
    return {site: _of_ours(workspace, site, jobs) for site, jobs in by_site.items()}


def _of_ours(workspace: Workspace, site: str, tokens: Mapping[str, str]) -> list[str]:
    """Return those of the jobs that carry their token now, where the scheduler shows it."""
    if not workspace.capabilities(site).marks:
        return list(tokens)
    seen = workspace.scheduler(site).query(list(tokens))
    return [job for job, token in tokens.items() if seen[job].may_be_of(token)]
