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


def test_no_runs_are_not_all_runs(made: TrivialProject) -> None:
    for nothing in (Filters(), None):
        with pytest.raises(InputError, match="name the runs to remove"):
            made.open().removals(EXPERIMENT, nothing)
    with pytest.raises(InputError, match="no runs were given"):
        made.open().removals(EXPERIMENT, [])
    with pytest.raises(InputError, match="no runs were given"):
        made.open().submit(EXPERIMENT, ())


def test_what_an_active_run_was_submitted_to_read_stays(made: TrivialProject) -> None:
    leave(made, "gone", "t3", at=50.0, ended=False)  # no run of the experiment any more
    with pytest.raises(StateError, match="what gone, which is active, reads is not known"):
        remove(made, "first")
    manifest = Store(made.results).layout.submission("t3").manifest
    manifest.parent.mkdir(parents=True)
    manifest.write_text(manifest_line(a_run("gone", "second"), "job.sh"))
    with pytest.raises(StateError, match="second is read by gone, which is active"):
        remove(made, "second")
    assert list(remove(made, "first")) == ["first"]


def test_what_others_name_by_its_path_stays(made: TrivialProject) -> None:
    file = made.results / "runs/first/attempts/1/work_dir/out.txt"
    mine = made.root / f"experiments/{EXPERIMENT}.yaml"
    before = mine.read_text()
    made.tasks({"third": task(inputs={"before": f"path:results/{EXPERIMENT}/runs/first/attempts"})})
    other = mine.rename(mine.with_name("elsewhere.yaml"))
    other.write_text(other.read_text().replace(f'"name": "{EXPERIMENT}"', '"name": "elsewhere"'))
    mine.write_text(before)
    with pytest.raises(StateError, match="first has files that experiment elsewhere names by `path:`"):
        remove(made, "first")
    other.write_text("name: elsewhere\ncodes: results\n")
    with pytest.raises(StateError, match=r"elsewhere\.yaml names results, and cannot be loaded"):
        remove(made, "first")
    other.unlink()
    taken = Product(run="x", digest="d", kind=TaskKind.SMOKE, attempt=1, ticket="adopted-x-1",
                    adopted_from=str(file.parent), artifacts={"out": "copy.txt"})  # fmt: skip
    results = made.root / "results/other"
    Ledger(results / "ledger").append(Finished(run="x", ticket="adopted-x-1", product=taken))
    (results / "runs/x").mkdir(parents=True)
    (results / "runs/x/copy.txt").write_text("copied")
    with pytest.raises(StateError, match="first was adopted by x of other"):
        remove(made, "first")


def test_an_old_decision_is_not_carried_out(made: TrivialProject) -> None:
    decided = made.open().removals(EXPERIMENT, "first")
    remove(made, "first")
    leave(made, "first", "again", at=9e9)
    with pytest.raises(StateError, match=r"first was not removed: .* since you looked"):
        made.open().remove(EXPERIMENT, decided)
    decided = made.open().removals(EXPERIMENT, "first")
    Ledger(made.results / "ledger").append(an_intent("t9", "second", at=9.1e9))
    with pytest.raises(StateError, match="first is read by second, which is active"):
        made.open().remove(EXPERIMENT, decided)
    assert planned(made)["first"].status is Status.DONE
    assert Claims(made.results).holder("again.0") == "run"


def test_only_runs_are_former_runs(made: TrivialProject) -> None:
    for name in (".snapshot/attempts/1", "my notes"):
        (made.results / "runs" / name).mkdir(parents=True)
    (made.results / "runs/.snapshot/attempts/1/run.json").write_text("{}")
    made.tasks({"first": task()})
    front = made.open()
    assert [r.run for r in front.removals(EXPERIMENT, "*")] == ["first", "second"]
    assert [r.run for r in front.removals(EXPERIMENT, Filters(states=("done",)))] == ["first"]


def test_a_failed_run_whose_removal_was_killed_is_removed_by_the_next(made: TrivialProject) -> None:
    remove(made, "first")
    leave(made, "first", "t5", at=9e9, ended=False)
    Ledger(made.results / "ledger").append(
        an_end("first", "t5.0", 9.1e9, failure=FailureClass.CODE, reason="broken")
    )

    def killed() -> None:
        _at_the_record()
        remove(made, "first")

    assert end_of(fork(killed)) == -signal.SIGKILL
    assert not (made.results / "runs/first").exists()
    assert planned(made)["first"].status is Status.FAILED
    assert list(remove(made, "first")) == ["first"]
    assert planned(made)["first"].status is Status.ELIGIBLE
    assert made.open().removals(EXPERIMENT, "first") == ()


def test_a_move_that_is_not_possible_changes_nothing(made: TrivialProject, tmp_path: Path) -> None:
    (made.results / "removed").write_text("in the way")
    with pytest.raises(StateError, match=r"first was not removed: .*/removed: File exists"):
        remove(made, "first")
    assert Claims(made.results).holder("t0.0") == "run"
    store = Store(made.results)
    with store.claims.sheet("next", ["first"]) as sheet:  # what this process reserved is free again
        assert store.claims.reserve("first", sheet, frozenset({"t0.0"}), store.tickets_of, 0) == ""
    store.claims.void("next.0")
    (tmp_path / "disk").mkdir()
    (made.results / "runs").rename(tmp_path / "disk/runs")
    (made.results / "runs").symlink_to(tmp_path / "disk/runs")
    assert Path(remove(made, "first")["first"]).parent == tmp_path / "disk/removed"


def test_a_run_that_is_removed_while_one_waits_for_it_is_not_submitted_again(made: TrivialProject) -> None:
    def show(*_: object) -> None:
        if planned(made)["first"].status is Status.DONE:
            remove(made, "first")

    said: list[str] = []
    made.open().wait(EXPERIMENT, "first", show=show, say=said.append)
    assert said == ["first was removed meanwhile; it is not submitted again here"]
    assert planned(made)["first"].submissions == 1


def test_a_plan_stands_for_its_site(made: TrivialProject) -> None:
    made.write("templates/other/site.yaml", {"name": "other", "scheduler": "local", "grace": "0s"})
    front = made.open()
    assert front.workspace(EXPERIMENT).site.name == "local"
    plan = front.plan(EXPERIMENT, site="other", refresh=False)
    assert front.workspace(plan).site.name == "other"
    assert front._of(plan, None).site.name == "other"
