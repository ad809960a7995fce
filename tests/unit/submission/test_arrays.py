"""Which runs share a submission."""

from __future__ import annotations

from ddqjobs.planning import plan as planning
from ddqjobs.schedulers.base import Capabilities
from ddqjobs.spec.model import Plan, Resources, Run
from ddqjobs.store.history import History
from ddqjobs.submission.arrays import batches
from tests.support.trivial import EXPERIMENT, TrivialProject, a_run

ABLE = Capabilities(arrays=True, dependencies=True)


def plan(*runs: Run) -> Plan:
    return planning.build(runs, History([]), experiment="e", site="local")


def test_runs_of_one_depth_and_one_size_share_a_submission(trivial: TrivialProject) -> None:
    big = Resources(gpus=8)
    runs = (a_run("a1"), a_run("a2"), a_run("big", resources=big), a_run("b1", "a1"), a_run("c1", "b1"))
    made = plan(*runs)
    site = trivial.open().workspace(EXPERIMENT).site
    groups = [[r.name for r in group] for _, group in batches(made.runs, site, ABLE)]
    assert groups == [["a1", "a2"], ["big"], ["b1"], ["c1"]]
    single = [len(group) for _, group in batches(made.runs, site, Capabilities())]
    assert single == [1] * 5


def test_a_submission_is_no_larger_than_the_site_allows(trivial: TrivialProject) -> None:
    trivial.write(
        "templates/local/site.yaml", {"name": "local", "scheduler": "local", "limits": {"array_size": 4}}
    )
    made = plan(*(a_run(f"r{n}") for n in range(10)))
    sizes = [len(group) for _, group in batches(made.runs, trivial.open().workspace(EXPERIMENT).site, ABLE)]
    assert sizes == [4, 4, 2]
