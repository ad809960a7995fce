"""What runs left is taken away once, whatever is killed and whoever else looks; never what is needed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ddqjobs.base.errors import StateError
from ddqjobs.planning.filters import Filters
from ddqjobs.spec.model import PlannedRun, Product, Status, TaskKind
from ddqjobs.store.claims import Claims
from ddqjobs.store.ledger import AnyRecord, Finished, Ledger
from ddqjobs.store.store import Store
from ddqjobs.submission import removal
from tests.support.trivial import EXPERIMENT, TrivialProject, an_intent, end_of, fork, task

RUNS = {"first": task(), "second": task(inputs={"before": "first.out"})}


@pytest.fixture
def made(tmp_path: Path) -> TrivialProject:
    """A project whose two runs are done, as jobs would have left them. Nothing runs."""
    project = TrivialProject(tmp_path / "project")
    project.tasks(RUNS)
    for number, run in enumerate(RUNS):
        leave(project, run, f"t{number}", at=10.0 * number + 1)
    return project


def leave(project: TrivialProject, run: str, token: str, *, at: float, ended: bool = True) -> None:
    """Write what a submission and its job leave; not ``ended``: the job still runs."""
    digests = {r.name: r.digest for r in project.open().load(EXPERIMENT).runs}
    store, ticket, digest = Store(project.results), f"{token}.0", digests.get(run, "gone")
    with store.claims.sheet(token, [run]) as sheet:
        past = frozenset(t.name for t in store.history().of(run).tickets)
        assert store.claims.reserve(run, sheet, past, store.tickets_of, 0) == ""
    store.claims.take(ticket, "run\n7\n")
    work = store.layout.run(run).attempt(1).work_dir
    work.mkdir(parents=True)
    (work / "out.txt").write_text("done")
    records: list[AnyRecord] = [an_intent(token, run, at=at, digest=digest)]
    product = Product(run=run, digest=digest, kind=TaskKind.SMOKE, attempt=1, ticket=ticket,
                      artifacts={"out": "attempts/1/work_dir/out.txt"})  # fmt: skip
    if ended:
        records.append(Finished(run=run, ticket=ticket, product=product, attempts=1, at=at + 1))
    Ledger(project.results / "ledger").append(*records)


def planned(project: TrivialProject) -> dict[str, PlannedRun]:
    return {p.run.name: p for p in project.open().plan(EXPERIMENT, refresh=False).runs}


def remove(project: TrivialProject, *names: str) -> dict[str, str]:
    front = project.open()
    return front.remove(EXPERIMENT, front.removals(EXPERIMENT, Filters(runs=names)))


def test_a_removed_run_is_eligible_and_its_folder_lies_aside(made: TrivialProject) -> None:
    (found,) = made.open().removals(EXPERIMENT, Filters(runs=("first",)))
    assert found.read_by == ("second",)
    assert planned(made)["first"].status is Status.DONE  # looking removes nothing
    place = Path(remove(made, "first")["first"])
    assert (place / "attempts/1/work_dir/out.txt").read_text() == "done"
    assert not (made.results / "runs/first").exists()
    after = planned(made)
    assert (after["first"].status, after["second"].status) == (Status.ELIGIBLE, Status.DONE)
    assert Claims(made.results).holder("t0.0") == "void"  # a job that comes back leaves nothing
    assert made.open().removals(EXPERIMENT, Filters(runs=("first",))) == ()
    leave(made, "first", "again", at=9e9)  # the next submission finds the reservation free
    assert planned(made)["first"].status is Status.DONE


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at_the_move() -> None:
    removal._move = kill  # type: ignore[assignment]


def _at_the_record() -> None:
    Ledger.append = kill  # type: ignore[assignment,method-assign]


def _after_the_record() -> None:
    Claims.void = kill  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("die", [_at_the_move, _at_the_record, _after_the_record])
def test_a_removal_that_is_killed_is_finished_by_the_next(
    made: TrivialProject, die: Callable[[], None]
) -> None:
    def killed() -> None:
        die()
        remove(made, "first")

    assert end_of(fork(killed)) == -signal.SIGKILL
    first = planned(made)["first"]
    kept = (made.results / "runs/first/attempts/1/work_dir/out.txt").exists()
    assert first.status is (Status.ELIGIBLE if die is _after_the_record else Status.DONE)
    assert first.gone == (first.status is Status.DONE and not kept)  # it is never done without its files
    remove(made, "first")
    assert planned(made)["first"].status is Status.ELIGIBLE
    assert len(list((made.results / "removed").iterdir())) == 1
    leave(made, "first", "again", at=9e9)


def test_what_goes_on_or_is_needed_stays(made: TrivialProject) -> None:
    leave(made, "third", "t3", at=50.0, ended=False)
    with pytest.raises(StateError, match=r"third is active .*cancel it first: `ddqjobs cancel third`"):
        remove(made, "third")
    made.tasks({**RUNS, "third": task(inputs={"before": "second.out"})})
    with pytest.raises(StateError, match="second is read by third, which is active"):
        remove(made, "second")
    taken = Product(run="x", digest="d", kind=TaskKind.SMOKE, attempt=1, ticket="adopted-x-1",
                    adopted_from=f"first of {EXPERIMENT}", artifacts={"out": "out.txt"})  # fmt: skip
    other = made.root / "results/other"
    Ledger(other / "ledger").append(Finished(run="x", ticket="adopted-x-1", product=taken))
    (other / "runs/x").mkdir(parents=True)
    (other / "runs/x/out.txt").symlink_to(made.results / "runs/first/attempts/1/work_dir/out.txt")
    with pytest.raises(StateError, match="first was adopted by x of other, whose files are links to it"):
        remove(made, "first")
    assert {p.status for p in planned(made).values()} == {Status.DONE, Status.ACTIVE}


def test_a_run_that_another_terminal_is_submitting_stays(made: TrivialProject) -> None:
    Claims(made.results).claims.mkdir(exist_ok=True)
    read, write = os.pipe()

    def submitting() -> None:
        store = Store(made.results)
        with store.claims.sheet("theirs", ["first"]) as sheet:
            store.claims.reserve("first", sheet, frozenset({"t0.0"}), store.tickets_of, 0)
        os.write(write, b"reserved")
        signal.pause()

    child = fork(submitting)
    os.read(read, 8)
    with pytest.raises(StateError, match=f"first was not removed: being submitted by process {child} on"):
        remove(made, "first")
    os.kill(child, signal.SIGKILL)
    end_of(child)
    assert planned(made)["first"].status is Status.DONE
    remove(made, "first")


def test_runs_that_the_experiment_no_longer_has_can_be_removed(made: TrivialProject) -> None:
    made.tasks({"first": task()})
    assert "second" not in planned(made)
    assert list(remove(made, "sec*")) == ["second"]
    assert not (made.results / "runs/second").exists()


def test_a_removed_result_can_be_adopted_again(made: TrivialProject, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "out.txt").write_text("found")
    for _ in range(2):
        remove(made, "first")
        front = made.open()
        front.adopt(front.plan(EXPERIMENT), "first", tmp_path / "old")
        assert planned(made)["first"].status is Status.DONE
