"""Tell whether the deterministic flag of a training keeps its word, by what `align repeat` runs say of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from ddqjobs.report.alignment import Alignment, alignment
from ddqjobs.spec.model import Plan, PlannedRun, Product, Run, Status, TaskKind

NOT_PROVEN = "not proven"


def sentence(findings: Alignment) -> str:
    """``bit-equal over 50 iterations`` or ``differs from iteration 3``."""
    if findings.bit_equal:
        return f"bit-equal over {findings.iterations} iterations"
    return (
        "differs"
        if findings.first_difference is None
        else f"differs from iteration {findings.first_difference}"
    )


def proofs(plan: Plan, products: Mapping[str, Product]) -> dict[str, str]:
    """Run -> sentence, of every training with the deterministic flag.

    A repeat speaks for a training of the same code, environment, configuration, options, launcher and number
    of GPUs, whatever its seed; one of another seed says which. A repeat that is not done or stale says
    nothing; of several, one that differs counts first, then one of the same seed, then the longest.
    """
    tried: dict[Hashable, list[tuple[Run, Alignment]]] = {}
    for planned, findings in _repeats(plan.runs, products):
        tried.setdefault(_same(planned.run), []).append((planned.run, findings))
    return {
        training.run.name: _best(training.run, tried.get(_same(training.run), ()))
        for training in plan.runs
        if training.run.kind is TaskKind.TRAIN and training.run.deterministic
    }


def _repeats(
    runs: Iterable[PlannedRun], products: Mapping[str, Product]
) -> Iterable[tuple[PlannedRun, Alignment]]:
    for planned in runs:
        product = products.get(planned.run.name)
        if planned.status is not Status.DONE or planned.stale or product is None:
            continue
        if planned.run.kind is TaskKind.ALIGN and (findings := alignment(product)).repeat:
            yield planned, findings


def _same(run: Run) -> Hashable:
    """Return what decides whether a training repeats."""
    size = run.resources.nodes * max(1, run.resources.gpus)
    launcher = run.launcher if size > 1 else ""  # a single process has none
    options = tuple(o for o in run.options if not _is_seed(o, run.seed))
    # The flag counts too: what was tried without it proves nothing for a training that has it.
    return run.code, run.environment, run.config, options, launcher, size, run.deterministic


def _is_seed(option: str, seed: int | None) -> bool:
    key, _, value = option.partition("=")
    return key.endswith("seed") and value == str(seed)


def _best(run: Run, tried: Iterable[tuple[Run, Alignment]]) -> str:
    order = sorted(tried, key=lambda t: (t[1].bit_equal, t[0].seed != run.seed, -(t[1].iterations or 0)))
    if not order:
        return NOT_PROVEN
    other, findings = order[0]
    return sentence(findings) + ("" if other.seed == run.seed else f" (seed {other.seed})")
