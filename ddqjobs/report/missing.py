"""List what stands between a plan and a whole report, and the commands that bring it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from ddqjobs.planning.filters import Filters, select
from ddqjobs.spec.model import JobState, Plan, PlannedRun, Status
from ddqjobs.spec.site import DEFAULT_SITE

UNDER_WAY, STALE, CANCELLED = "under way", "done but stale", "cancelled"
AGAIN = "failed, to be tried again"
MANY = 6  # more runs are not spelled out in a command, where it takes the same without names or by a filter


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that lack the same thing, and the command that brings it. Optional runs never are missing."""

    what: str
    """State that the runs share, for example `eligible` or `failed`. Example: eligible"""
    runs: tuple[str, ...]
    """Names of the runs. Example: [p1-test.ddq-detr-4scale]"""
    command: str
    """Command that starts these runs, or for runs under way follows them. Example: ddqjobs submit ddq
    p1-test.ddq-detr-4scale"""


def missing(
    experiment: str,
    picked: Sequence[PlannedRun],
    states: Mapping[str, str],
    plan: Plan,
) -> tuple[Missing, ...]:
    """Return what stands between the plan and a whole report, most urgent first; ``picked`` is what the
    report has of the plan. A command takes no other run of it: where one without names would, it selects
    its runs by a filter or names all."""
    whole = len(picked) == len(plan.runs)
    groups: dict[str, list[str]] = {key: [] for key in _REMEDIES}
    # Nothing new is made of these, nor of what needs them.
    held_up = {planned.run.name for planned in picked if planned.stale}
    for planned in picked:
        if states[planned.run.name] == "product missing":
            groups["lost"].append(planned.run.name)
        elif planned.stale:
            groups["stale"].append(planned.run.name)
        elif planned.status is not Status.DONE and not (
            planned.run.optional and planned.status in _NOT_ASKED
        ):
            held = planned.status is Status.WAITING and not held_up.isdisjoint(planned.run.upstream)
            on_hold = planned.state is JobState.HELD and not planned.owner
            kind = "held" if on_hold else AGAIN if planned.again else planned.word
            groups["held up" if held else kind].append(planned.run.name)
            held_up |= {planned.run.name} if held else set()

    def named(key: str, names: Sequence[str]) -> Sequence[str]:
        # Without names submit takes eligible runs, and with them what failed on a disk that is still full;
        # retry takes what failed, and with it what was cancelled.
        mixed = (key in (AGAIN, "eligible") and groups[AGAIN]) or (
            key in ("failed", CANCELLED) and groups["failed"] and groups[CANCELLED]
        )
        if len(names) <= MANY:
            return names
        takes_others = mixed or not whole
        return (_filter(plan, names) or names) if takes_others else ()

    return tuple(
        Missing(
            what=what,
            runs=tuple(names),
            command=command(arguments, experiment, named(key, names) if naming else (), plan.site),
        )
        for key, (what, arguments, naming) in _REMEDIES.items()
        if (names := groups[key])
    )


def _filter(plan: Plan, names: Collection[str]) -> Sequence[str]:
    """Return the options that select these runs of a plan and no others, but for those that are done for
    good; none if no filter does."""
    wanted = [planned for planned in plan.runs if planned.run.name in names]
    open_ = [p for p in plan.runs if p.run.name in names or p.status is not Status.DONE or p.stale]
    if any(planned.run.optional for planned in wanted):
        return ()  # which are taken only by name
    rest = msgspec.structs.replace(plan, runs=tuple(open_))
    for options, filters in _filters(wanted):
        if len(select(rest, filters)) == len(wanted):
            return options
    return ()


def _filters(wanted: Sequence[PlannedRun]) -> Iterator[tuple[Sequence[str], Filters]]:
    """Yield the filters that these runs pass, the simplest first, as options and as what they mean."""
    states = tuple(dict.fromkeys("stale" if planned.stale else planned.word for planned in wanted))
    values = {
        ("--task", "tasks"): [planned.run.task for planned in wanted],
        ("--phase", "phases"): [planned.run.phase for planned in wanted],
        ("--model", "models"): [planned.run.model for planned in wanted],
        ("--variant", "variants"): [planned.run.variant for planned in wanted],
    }
    for said in ((), states):
        of_states = [word for state in said for word in ("--state", state)]
        if said:
            yield of_states, Filters(states=said)
        for (option, field), of_runs in values.items():
            own = tuple(dict.fromkeys(of_runs))
            if "" not in own and len(own) <= MANY:
                words = [word for value in own for word in (option, value)]
                yield [*of_states, *words], msgspec.structs.replace(Filters(states=said), **{field: own})


_NOT_ASKED = (Status.ELIGIBLE, Status.WAITING)  # optional runs in these were simply not asked for

# group -> what is the matter, the command's words, whether it names the runs
_REMEDIES: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "failed": ("failed", ("retry",), True),
    CANCELLED: (CANCELLED, ("retry",), True),
    "lost": ("done, but the product is gone", ("submit", "--stale"), True),
    AGAIN: (AGAIN, ("submit",), True),
    "held": ("held in the queue", ("release",), True),
    "eligible": ("eligible", ("submit",), True),
    "held up": ("waiting for stale runs", ("submit", "--stale", "--wait"), False),
    "waiting": ("waiting for other runs", ("submit", "--wait"), False),
    "active": (UNDER_WAY, ("status", "--watch"), False),
    "stale": (STALE, ("submit", "--stale"), True),
}


def command(
    arguments: Sequence[str], experiment: str, names: Sequence[str] = (), site: str = DEFAULT_SITE
) -> str:
    """Return a command of ddqjobs for these runs; it names a site that is not the one without a name."""
    verb, *flags = arguments
    where = [] if site == DEFAULT_SITE else ["--site", site]
    return shlex.join(["ddqjobs", verb, experiment, *flags, *where, *names])
