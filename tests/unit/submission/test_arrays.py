"""Runs that share a submission."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ddqjobs.planning import plan as planning
from ddqjobs.project import open_project
from ddqjobs.schedulers.base import Capabilities
from ddqjobs.schedulers.slurm import dependencies
from ddqjobs.spec.model import JobState, Plan, Resources, Run
from ddqjobs.store.history import History
from ddqjobs.store.ledger import Observed, Submitted
from ddqjobs.submission.arrays import batches, first_index
from ddqjobs.submission.round import elements_of
from tests.support.trivial import EXPERIMENT, TrivialProject, a_run, an_intent, task

ABLE = Capabilities(arrays=True, dependencies=True)


def plan(*runs: Run) -> Plan:
    return planning.build(runs, History([]), experiment="e", site="local")


def test_runs_of_one_depth_and_one_size_share_a_submission(trivial: TrivialProject) -> None:
    big = Resources(gpus=8)
    runs = (a_run("a1"), a_run("a2"), a_run("big", resources=big), a_run("b1", "a1"), a_run("c1", "b1"))
    full_plan = plan(*runs)
    site = trivial.open().workspace(EXPERIMENT).site
    groups = [[r.name for r in group] for _, group in batches(full_plan.runs, site, ABLE)]
    assert groups == [["a1", "a2"], ["big"], ["b1"], ["c1"]]
    single = [len(group) for _, group in batches(full_plan.runs, site, Capabilities())]
    assert single == [1] * 5


def test_runs_whose_hours_differ_more_than_fourfold_share_no_submission(trivial: TrivialProject) -> None:
    hours = {"a": 1.0, "b": 26.0, "c": 4.0, "d": 4.1, "e": None, "f": 16.0, "g": None, "h": 0.01, "i": 0.2}
    full_plan = plan(*(msgspec.structs.replace(a_run(name), hours=h) for name, h in hours.items()))
    site = trivial.open().workspace(EXPERIMENT).site
    groups = [[r.name for r in group] for _, group in batches(full_plan.runs, site, ABLE)]
    assert groups == [["a", "h", "i"], ["b"], ["c", "d", "f"], ["e", "g"]]


def test_the_part_of_an_array_that_matches_another_stays_an_array(trivial: TrivialProject) -> None:
    jobs = {f"up{i}": f"7_{i}" for i in (1, 2, 3, 5, 6)}
    downs = [a_run(f"down{i}", f"up{i}") for i in range(8)]
    full_plan = plan(*(a_run(f"up{i}") for i in range(8)), *downs)
    site = trivial.open().workspace(EXPERIMENT, "slurm").site
    picks = [planned for planned in full_plan.runs if planned.run.name.startswith("down")]
    groups = [runs for _, runs in batches(picks, site, ABLE, jobs)]
    assert [[r.name for r in runs] for runs in groups] == [
        ["down1", "down2", "down3"], ["down5", "down6"], ["down0", "down4", "down7"],
    ]  # fmt: skip
    assert [first_index(runs, jobs) for runs in groups] == [1, 5, 0]
    elements = elements_of(groups[0], jobs, 1)
    assert dependencies.options(elements)[0] == "--dependency=aftercorr:7"


def test_an_array_begins_with_the_index_that_it_waits_for(trivial: TrivialProject) -> None:
    """Index, ticket, function, line of the manifest and the scheduler's own index are one number."""
    trivial.tasks({"a": task(seeds=[0, 1, 2, 3]), "b": task(seeds=[0, 1, 2, 3], inputs={"x": "a.out"})})
    workspace = trivial.open().workspace(EXPERIMENT, "slurm")
    _gone, *_, last = [run.name for run in workspace.loaded.runs if run.task == "a"]
    running = [run.name for run in workspace.loaded.runs if run.task == "a"][1:]
    intent = msgspec.structs.replace(an_intent("t", *running, at=1), site="slurm", scheduler="slurm", first=1)
    workspace.store.ledger.append(intent, Submitted(token="t", jobs={str(i): f"7_{i}" for i in (1, 2, 3)}))
    history = workspace.store.history()
    assert [t.name for t in history.of(last).tickets] == ["t.3"]
    assert history.of(last).tickets[0].job == "7_3"
    rendered, _ = trivial.open().dry_run(
        EXPERIMENT, [f"b.{run.partition('.')[2]}" for run in running], site="slurm"
    )
    (array,) = [r for r in rendered if r.runs[0].startswith("b.")]
    assert array.command[2] == "--dependency=aftercorr:7"
    assert "#SBATCH --array=1-3\n" in array.scripts.job
    assert 'sed -n "$((DDQJOBS_INDEX - 0))p"' in array.scripts.job
    assert [
        f"element_{i}() {{  # {run}" in array.scripts.elements for i, run in enumerate(array.runs, 1)
    ] == [True] * 3


def test_a_submission_is_no_larger_than_the_site_allows(trivial: TrivialProject) -> None:
    trivial.write(
        "templates/local/site.yaml", {"name": "local", "scheduler": "local", "limits": {"array_size": 4}}
    )
    full_plan = plan(*(a_run(f"r{n}") for n in range(10)))
    sizes = [
        len(group) for _, group in batches(full_plan.runs, trivial.open().workspace(EXPERIMENT).site, ABLE)
    ]
    assert sizes == [4, 4, 2]


def test_a_dry_run_says_how_each_script_would_be_submitted(tmp_path: Path) -> None:
    rendered, _ = open_project(tmp_path).dry_run("nano", site="slurm")
    commands = {name: r.command for r in rendered for name in r.runs}
    order = {name: f"JOB{number}" for number, r in enumerate(rendered, 1) for name in r.runs}
    assert all(command[:2] == ("sbatch", "--parsable") for command in commands.values())
    assert commands["data"][2:] == ("SUBMISSION1/job.sh",)
    (waits,) = [word for word in commands["p1-test.ddq-detr-r18"] if word.startswith("--dependency=")]
    release = next(name for name in commands if name.startswith("release"))
    jobs = {job.partition("_")[0] for job in waits.partition("afterok:")[2].split(":")}
    assert jobs == {order["data"], order[release]}


@pytest.mark.parametrize(
    ("section", "options", "after"),
    [
        ({}, [], ("JOB1",)),
        ({"dialect": {"dependency": [], "submit": ["dsub", "-s", "{script}"]}}, [], ("JOB1",)),
        ({"dependencies": True}, ["-D", "JOB1=ENDED"], ()),
    ],
)
def test_a_dry_run_names_dependencies_where_the_site_uses_them(
    trivial: TrivialProject, section: object, options: list[str], after: tuple[str, ...]
) -> None:
    trivial.write("templates/mine/site.yaml", {"name": "mine", "base": "bscc", "donau": section})
    (first, second), omissions = trivial.open().dry_run(EXPERIMENT, site="mine")
    assert omissions == {}
    assert (first.command, first.after) == (("dsub", "-s", "SUBMISSION1/job.sh"), ())
    assert (second.command, second.after) == (("dsub", *options, "-s", "SUBMISSION2/job.sh"), after)


@pytest.mark.parametrize("state", [None, JobState.QUEUED, JobState.UNKNOWN])
def test_a_dry_run_waits_for_jobs_that_submit_would_wait_for(
    trivial: TrivialProject, state: JobState | None
) -> None:
    trivial.tasks(
        {"a": task(), "b": task(), "c": task(inputs={"x": "a.out"}), "d": task(inputs={"x": "b.out"})}
    )
    ledger = trivial.open().workspace(EXPERIMENT, "slurm").store.ledger
    intent = msgspec.structs.replace(an_intent("t", "a", "b", at=1), site="slurm", scheduler="slurm")
    ledger.append(intent, Submitted(token="t", jobs={"0": "7_0", "1": "7_1"}, at=2))
    if state is not None:
        ledger.append(Observed(ticket="t.0", state=state, at=3), Observed(ticket="t.1", state=state, at=3))
    rendered, omissions = trivial.open().dry_run(EXPERIMENT, site="slurm")
    if state is JobState.UNKNOWN:
        why = "needs {}, whose job the scheduler does not show yet"
        assert (rendered, omissions) == ([], {"c": why.format("a"), "d": why.format("b")})
    else:
        (both,) = rendered
        assert (both.runs, both.command[2]) == (("c", "d"), "--dependency=aftercorr:7")
