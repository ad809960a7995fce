"""Read what lies behind each run from its folder: attempts, script, log, configuration, environment.

A file that is not there, is binary, or is huge costs a line that says so, never the page.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ddqjobs.base.errors import DdqjobsError
from ddqjobs.environments import environment
from ddqjobs.environments.on_site import Environments
from ddqjobs.planning import digest
from ddqjobs.spec.model import Attempt, Plan, PlannedRun, Product, Status
from ddqjobs.store import evidence
from ddqjobs.store.history import History
from ddqjobs.store.layout import Layout, RunFolder, SubmissionFolder
from ddqjobs.submission.workspace import Workspace

TAIL_LINES, LINE = 14, 220  # of a log, and characters of each line
DIFFERENCES = 60  # lines of a configuration's difference
MOST_RUNS = 500  # whose evidence a page shows: ten thousand bytes each
_URGENCY = {Status.FAILED: 0, Status.ACTIVE: 1}
_VALUE = 160  # characters of a configuration's value
_CONFIG_BYTES = 2 << 20
_MANIFEST_BYTES = 64 << 20


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one run that its entry on the page shows."""

    attempts: tuple[Attempt, ...]
    ends: dict[int, str] = {}  # attempt -> why it failed, as `status` says it
    log_tail: tuple[str, ...] = ()
    submission: str = ""  # token; its script is shown once for all of its runs
    script: str = ""  # what this run adds to the submission's script
    base: str = ""  # run whose configuration the difference is against; empty: this is such a base
    differences: tuple[str, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()  # part -> digest


class EnvironmentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An environment as its ready.json tells it; ``problem`` where it is not ready on this site."""

    name: str
    lock: str  # digest
    python: str = ""
    packages: tuple[tuple[str, str], ...] = ()
    host: str = ""
    verified_at: float | None = None
    problem: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Of all runs that a page shows."""

    runs: dict[str, RunFacts]
    scripts: dict[str, str]  # token -> job.sh
    environments: tuple[EnvironmentFacts, ...]


def read(
    workspace: Workspace,
    environments: Environments,
    plan: Plan,
    products: Mapping[str, Product],
    shown: Iterable[str],
) -> Facts:
    """Return what lies behind the ``shown`` runs; of many only behind those that a reader looks for first."""
    wanted = set(shown)
    listed = [planned for planned in plan.runs if planned.run.name in wanted]
    picked = first(listed)
    history = workspace.store.history()
    submissions: dict[str, _Submission] = {}
    bases: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}
    runs = {}
    for planned in picked:
        folder = workspace.store.run_dir(planned.run.name)
        attempts = evidence.attempts(folder)
        token = (attempts[-1].ticket if attempts else planned.ticket).rpartition(".")[0]
        if token not in submissions:
            submissions[token] = _submission(Layout(workspace.results).submission(token)) if token else _NONE
        submission = submissions[token]
        base, differences = _configuration(planned, folder, attempts, bases)
        product = products.get(planned.run.name)
        runs[planned.run.name] = RunFacts(
            attempts=tuple(attempts),
            ends=_ends(attempts, history),
            log_tail=_tail(folder, attempts),
            submission=token if submission.script else "",
            script=submission.of_runs.get(planned.run.name, ""),
            base=base,
            differences=differences,
            digests=digest.parts((product or planned.run).digest),
        )
    environment_facts = tuple(
        _environment(environments, name)
        for name in dict.fromkeys(planned.run.environment for planned in listed)
        if name
    )
    scripts = {token: submission.script for token, submission in submissions.items() if submission.script}
    return Facts(runs=runs, scripts=scripts, environments=environment_facts)


def first(runs: Sequence[PlannedRun], most: int = MOST_RUNS) -> list[PlannedRun]:
    """Return at most so many runs in the plan's order: failed ones before active ones before others."""
    urgent = sorted(
        runs, key=lambda planned: 0 if planned.again else _URGENCY.get(planned.status, len(_URGENCY))
    )
    kept = {planned.run.name for planned in urgent[:most]}
    return [planned for planned in runs if planned.run.name in kept]


def hosts(facts: Facts) -> set[str]:
    """Return the names of all nodes that attempts and environments name."""
    named = {attempt.host for run in facts.runs.values() for attempt in run.attempts}
    return {host for host in (*named, *(e.host for e in facts.environments)) if host}


def without_scripts(facts: Facts) -> Facts:
    """Return the facts without launch scripts, which hold a site's accounts, modules and paths."""
    runs = {name: msgspec.structs.replace(run, script="", submission="") for name, run in facts.runs.items()}
    return msgspec.structs.replace(facts, runs=runs, scripts={})


def _ends(attempts: Iterable[Attempt], history: History) -> dict[int, str]:
    """Return attempt -> class and reason of its failure as the ledger recorded them. A ticket's failure is
    that of its last attempt."""
    last = {a.ticket: a.number for a in attempts}
    ends = {}
    for name, number in last.items():
        ticket = history.tickets.get(name)
        end = ticket.finished if ticket is not None else None
        if end is not None and end.failure is not None:
            ends[number] = f"{end.failure.value}: {end.reason}" if end.reason else end.failure.value
    return ends


class _Submission(msgspec.Struct, frozen=True, kw_only=True):
    """The scripts of one submission."""

    script: str
    of_runs: dict[str, str]  # run -> what it adds, where that is known


class _Line(msgspec.Struct):
    """The part of a manifest's line that the page takes. Older versions wrote no script there."""

    name: str = ""
    script: str = ""


_NONE = _Submission(script="", of_runs={})


def _submission(folder: SubmissionFolder) -> _Submission:
    lines = map(_manifest_line, _text(folder.manifest, _MANIFEST_BYTES).split("\n"))
    of_runs = {line.name: line.script for line in lines}
    script = _text(folder.script)
    if not any(of_runs.values()):
        script += _text(folder.elements)
    return _Submission(script=script, of_runs=of_runs)


def _manifest_line(line: str) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError:
        return _Line()


def _text(path: Path, limit: int = _CONFIG_BYTES) -> str:
    """A text; empty if there is none or it is none."""
    try:
        with path.open("rb") as file:
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def _tail(folder: Path, attempts: list[Attempt]) -> tuple[str, ...]:
    if not attempts:
        return ()
    text = evidence.log_tail(RunFolder(folder).attempt(attempts[-1].number).path)
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    kept = [line for line in lines if line][-TAIL_LINES:]
    return tuple(line if len(line) <= LINE else line[: LINE - 1] + "…" for line in kept)


# --------------------------------------------------------------------------------------- configurations


def _configuration(
    planned: PlannedRun,
    folder: Path,
    attempts: list[Attempt],
    bases: dict[tuple[str, str], tuple[str, dict[str, str]]],
) -> tuple[str, tuple[str, ...]]:
    """(base run, how this run's resolved configuration differs from the base's). The base is the first run
    of the same kind and model, in the plan's order, whose detector dumped its configuration."""
    if not attempts or not planned.run.config:
        return "", ()
    values = dumped(RunFolder(folder).attempt(attempts[-1].number).work_dir, str(folder))
    if not values:
        return "", ()
    key = (planned.run.kind.value, planned.run.model)
    if key not in bases:
        bases[key] = (planned.run.name, values)
        return "", ()
    name, base = bases[key]
    return name, difference(base, values)


def dumped(work_dir: Path, run_dir: str) -> dict[str, str]:
    """The resolved configuration that a detector left in its work_dir, flat: ``model.backbone.depth`` ->
    source text. The run's own folder reads ``{run_dir}``. Empty if there is none that can be read."""
    try:
        stamped = sorted(work_dir.glob("*/vis_data/config.py"), reverse=True)
        candidates = [*stamped, *sorted(work_dir.glob("*.py"))]
    except OSError:
        return {}
    for path in candidates[:1]:
        try:
            tree = ast.parse(_text(path))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return {}
        values: dict[str, str] = {}
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                _flatten(statement.targets[0].id, statement.value, values)
        return {key: text.replace(run_dir, "{run_dir}") for key, text in values.items()}
    return {}


def _flatten(name: str, value: ast.expr, into: dict[str, str], depth: int = 0) -> None:
    if isinstance(value, ast.Call) and not value.args and value.keywords and depth < 12:
        for keyword in value.keywords:
            _flatten(f"{name}.{keyword.arg}", keyword.value, into, depth + 1)
        return
    try:
        text = ast.unparse(value)
    except RecursionError:
        text = "..."
    into[name] = text if len(text) <= _VALUE else text[: _VALUE - 1] + "…"


def difference(base: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, ...]:
    """Lines ``key: base -> ours``, ``+ key: ours``, ``- key: base``."""
    lines = []
    for key in sorted({*base, *ours}):
        if key not in base:
            lines.append(f"+ {key}: {ours[key]}")
        elif key not in ours:
            lines.append(f"- {key}: {base[key]}")
        elif base[key] != ours[key]:
            lines.append(f"  {key}: {base[key]} -> {ours[key]}")
    more = len(lines) - DIFFERENCES
    return tuple(lines[:DIFFERENCES] + ([f"  and {more} more"] if more > 0 else []))


def _environment(environments: Environments, name: str) -> EnvironmentFacts:
    try:
        state = environments.state(name)
        lock = environments.identity(name)
    except DdqjobsError as error:
        return EnvironmentFacts(name=name, lock="", problem=str(error))
    ready: environment.Ready | None = state.ready
    if ready is None:
        return EnvironmentFacts(name=name, lock=lock, problem=state.reason)
    return EnvironmentFacts(
        name=name,
        lock=lock,
        python=ready.python,
        packages=tuple(sorted(ready.packages.items())),
        host=ready.host,
        verified_at=ready.verified_at,
    )
