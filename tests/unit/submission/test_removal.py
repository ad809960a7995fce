"""Files of removed runs are taken away once, whatever is killed and whoever else looks; never needed ones."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ddqjobs.base.errors import InputError, StateError
from ddqjobs.planning.filters import Filters
from ddqjobs.spec.model import FailureClass, PlannedRun, Product, Status, TaskKind
from ddqjobs.store.claims import Claims
from ddqjobs.store.ledger import AnyRecord, Finished, Ledger
from ddqjobs.store.store import Store
from ddqjobs.submission import removal
from ddqjobs.submission.script import manifest_line
from tests.support.trivial import EXPERIMENT, TrivialProject, a_run, an_end, an_intent, end_of, fork, task

RUNS = {"first": task(), "second": task(inputs={"before": "first.out"})}


@pytest.fixture
def finished(tmp_path: Path) -> TrivialProject:
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
    return {entry.run.name: entry for entry in project.open().plan(EXPERIMENT, refresh=False).runs}


def remove(project: TrivialProject, *names: str) -> dict[str, str]:
    front = project.open()
    return front.remove(EXPERIMENT, front.removals(EXPERIMENT, Filters(runs=names)))


def test_a_removed_run_is_eligible_and_its_folder_lies_aside(finished: TrivialProject) -> None:
    (decision,) = finished.open().removals(EXPERIMENT, Filters(runs=("first",)))
    assert decision.read_by == ("second",)
    assert planned(finished)["first"].status is Status.DONE  # looking removes nothing
    place = Path(remove(finished, "first")["first"])
    assert (place / "attempts/1/work_dir/out.txt").read_text() == "done"
    assert not (finished.results / "runs/first").exists()
    after = planned(finished)
    assert (after["first"].status, after["second"].status) == (Status.ELIGIBLE, Status.DONE)
    assert Claims(finished.results).holder("t0.0") == "void"  # a job that comes back leaves nothing
    assert finished.open().removals(EXPERIMENT, Filters(runs=("first",))) == ()
    leave(finished, "first", "again", at=9e9)  # the next submission finds the reservation free
    assert planned(finished)["first"].status is Status.DONE


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
    finished: TrivialProject, die: Callable[[], None]
) -> None:
    def killed() -> None:
        die()
        remove(finished, "first")

    assert end_of(fork(killed)) == -signal.SIGKILL
    first = planned(finished)["first"]
    product_exists = (finished.results / "runs/first/attempts/1/work_dir/out.txt").exists()
    assert first.status is (Status.ELIGIBLE if die is _after_the_record else Status.DONE)
    # it is never done without its files
    assert first.gone == (first.status is Status.DONE and not product_exists)
    remove(finished, "first")
    assert planned(finished)["first"].status is Status.ELIGIBLE
    assert len(list((finished.results / "removed").iterdir())) == 1
    leave(finished, "first", "again", at=9e9)


def test_what_goes_on_or_is_needed_stays(finished: TrivialProject) -> None:
    leave(finished, "third", "t3", at=50.0, ended=False)
    with pytest.raises(StateError, match=r"third is active .*cancel it first: `ddqjobs cancel third`"):
        remove(finished, "third")
    finished.tasks({**RUNS, "third": task(inputs={"before": "second.out"})})
    with pytest.raises(StateError, match="second is read by third, which is active"):
        remove(finished, "second")
    taken = Product(run="x", digest="d", kind=TaskKind.SMOKE, attempt=1, ticket="adopted-x-1",
                    adopted_from=f"first of {EXPERIMENT}", artifacts={"out": "out.txt"})  # fmt: skip
    other = finished.root / "results/other"
    Ledger(other / "ledger").append(Finished(run="x", ticket="adopted-x-1", product=taken))
    (other / "runs/x").mkdir(parents=True)
    (other / "runs/x/out.txt").symlink_to(finished.results / "runs/first/attempts/1/work_dir/out.txt")
    with pytest.raises(StateError, match="first was adopted by x of other, whose files are links to it"):
        remove(finished, "first")
    assert {entry.status for entry in planned(finished).values()} == {Status.DONE, Status.ACTIVE}


def test_a_run_that_another_terminal_is_submitting_stays(finished: TrivialProject) -> None:
    Claims(finished.results).claims.mkdir(exist_ok=True)
    read, write = os.pipe()

    def submitting() -> None:
        store = Store(finished.results)
        with store.claims.sheet("theirs", ["first"]) as sheet:
            store.claims.reserve("first", sheet, frozenset({"t0.0"}), store.tickets_of, 0)
        os.write(write, b"reserved")
        signal.pause()

    child = fork(submitting)
    os.read(read, 8)
    with pytest.raises(StateError, match=f"first was not removed: being submitted by process {child} on"):
        remove(finished, "first")
    os.kill(child, signal.SIGKILL)
    end_of(child)
    assert planned(finished)["first"].status is Status.DONE
    remove(finished, "first")


def test_runs_that_the_experiment_no_longer_has_can_be_removed(finished: TrivialProject) -> None:
    finished.tasks({"first": task()})
    assert "second" not in planned(finished)
    assert list(remove(finished, "sec*")) == ["second"]
    assert not (finished.results / "runs/second").exists()


def test_a_removed_result_can_be_adopted_again(finished: TrivialProject, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "out.txt").write_text("found")
    for _ in range(2):
        remove(finished, "first")
        front = finished.open()
        front.adopt(front.plan(EXPERIMENT), "first", tmp_path / "old")
        assert planned(finished)["first"].status is Status.DONE


def test_no_runs_are_not_all_runs(finished: TrivialProject) -> None:
    for nothing in (Filters(), None):
        with pytest.raises(InputError, match="name the runs to remove"):
            finished.open().removals(EXPERIMENT, nothing)
    with pytest.raises(InputError, match="no runs were given"):
        finished.open().removals(EXPERIMENT, [])
    with pytest.raises(InputError, match="no runs were given"):
        finished.open().submit(EXPERIMENT, ())


def test_what_an_active_run_was_submitted_to_read_stays(finished: TrivialProject) -> None:
    leave(finished, "gone", "t3", at=50.0, ended=False)  # no run of the experiment any more
    with pytest.raises(StateError, match="what gone, which is active, reads is not known"):
        remove(finished, "first")
    manifest = Store(finished.results).layout.submission("t3").manifest
    manifest.parent.mkdir(parents=True)
    manifest.write_text(manifest_line(a_run("gone", "second"), "job.sh"))
    with pytest.raises(StateError, match="second is read by gone, which is active"):
        remove(finished, "second")
    assert list(remove(finished, "first")) == ["first"]


def test_what_others_name_by_its_path_stays(finished: TrivialProject) -> None:
    file = finished.results / "runs/first/attempts/1/work_dir/out.txt"
    mine = finished.root / f"experiments/{EXPERIMENT}.yaml"
    before = mine.read_text()
    finished.tasks({"third": task(inputs={"before": f"path:results/{EXPERIMENT}/runs/first/attempts"})})
    other = mine.rename(mine.with_name("elsewhere.yaml"))
    other.write_text(other.read_text().replace(f'"name": "{EXPERIMENT}"', '"name": "elsewhere"'))
    mine.write_text(before)
    with pytest.raises(StateError, match="first has files that experiment elsewhere names by `path:`"):
        remove(finished, "first")
    other.write_text("name: elsewhere\ncodes: results\n")
    with pytest.raises(StateError, match=r"elsewhere\.yaml names results, and cannot be loaded"):
        remove(finished, "first")
    other.unlink()
    taken = Product(run="x", digest="d", kind=TaskKind.SMOKE, attempt=1, ticket="adopted-x-1",
                    adopted_from=str(file.parent), artifacts={"out": "copy.txt"})  # fmt: skip
    results = finished.root / "results/other"
    Ledger(results / "ledger").append(Finished(run="x", ticket="adopted-x-1", product=taken))
    (results / "runs/x").mkdir(parents=True)
    (results / "runs/x/copy.txt").write_text("copied")
    with pytest.raises(StateError, match="first was adopted by x of other"):
        remove(finished, "first")


def test_an_old_decision_is_not_carried_out(finished: TrivialProject) -> None:
    decided = finished.open().removals(EXPERIMENT, "first")
    remove(finished, "first")
    leave(finished, "first", "again", at=9e9)
    with pytest.raises(StateError, match=r"first was not removed: .* since you looked"):
        finished.open().remove(EXPERIMENT, decided)
    decided = finished.open().removals(EXPERIMENT, "first")
    Ledger(finished.results / "ledger").append(an_intent("t9", "second", at=9.1e9))
    with pytest.raises(StateError, match="first is read by second, which is active"):
        finished.open().remove(EXPERIMENT, decided)
    assert planned(finished)["first"].status is Status.DONE
    assert Claims(finished.results).holder("again.0") == "run"


def test_only_runs_are_former_runs(finished: TrivialProject) -> None:
    for name in (".snapshot/attempts/1", "my notes"):
        (finished.results / "runs" / name).mkdir(parents=True)
    (finished.results / "runs/.snapshot/attempts/1/run.json").write_text("{}")
    finished.tasks({"first": task()})
    front = finished.open()
    assert [r.run for r in front.removals(EXPERIMENT, "*")] == ["first", "second"]
    assert [r.run for r in front.removals(EXPERIMENT, Filters(states=("done",)))] == ["first"]


def test_a_failed_run_whose_removal_was_killed_is_removed_by_the_next(finished: TrivialProject) -> None:
    remove(finished, "first")
    leave(finished, "first", "t5", at=9e9, ended=False)
    Ledger(finished.results / "ledger").append(
        an_end("first", "t5.0", 9.1e9, failure=FailureClass.CODE, reason="broken")
    )

    def killed() -> None:
        _at_the_record()
        remove(finished, "first")

    assert end_of(fork(killed)) == -signal.SIGKILL
    assert not (finished.results / "runs/first").exists()
    assert planned(finished)["first"].status is Status.FAILED
    assert list(remove(finished, "first")) == ["first"]
    assert planned(finished)["first"].status is Status.ELIGIBLE
    assert finished.open().removals(EXPERIMENT, "first") == ()


def test_a_move_that_is_not_possible_changes_nothing(finished: TrivialProject, tmp_path: Path) -> None:
    (finished.results / "removed").write_text("in the way")
    with pytest.raises(StateError, match=r"first was not removed: .*/removed: File exists"):
        remove(finished, "first")
    assert Claims(finished.results).holder("t0.0") == "run"
    store = Store(finished.results)
    with store.claims.sheet("next", ["first"]) as sheet:  # what this process reserved is free again
        assert store.claims.reserve("first", sheet, frozenset({"t0.0"}), store.tickets_of, 0) == ""
    store.claims.void("next.0")
    (tmp_path / "disk").mkdir()
    (finished.results / "runs").rename(tmp_path / "disk/runs")
    (finished.results / "runs").symlink_to(tmp_path / "disk/runs")
    assert Path(remove(finished, "first")["first"]).parent == tmp_path / "disk/removed"


def test_a_run_that_is_removed_while_one_waits_for_it_is_not_submitted_again(
    finished: TrivialProject,
) -> None:
    def show(*_: object) -> None:
        if planned(finished)["first"].status is Status.DONE:
            remove(finished, "first")

    messages: list[str] = []
    finished.open().wait(EXPERIMENT, "first", show=show, say=messages.append)
    assert messages == ["first was removed meanwhile; it is not submitted again here"]
    assert planned(finished)["first"].submissions == 1


def test_a_plan_stands_for_its_site(finished: TrivialProject) -> None:
    finished.write("templates/other/site.yaml", {"name": "other", "scheduler": "local", "grace": "0s"})
    front = finished.open()
    assert front.workspace(EXPERIMENT).site.name == "local"
    plan = front.plan(EXPERIMENT, site="other", refresh=False)
    assert front.workspace(plan).site.name == "other"
    assert front._of(plan, None).site.name == "other"
