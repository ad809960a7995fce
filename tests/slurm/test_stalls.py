"""Runs that Slurm lets wait for what is done."""

from __future__ import annotations

from ddqjobs.spec.model import Status
from tests.support.slurm import Lab, SlurmProject
from tests.support.trivial import EXPERIMENT, task, until


def test_runs_go_on_that_slurm_lets_wait_for_what_is_done(lab: Lab, on_slurm: SlurmProject) -> None:
    """A controller that has lost the ends of jobs holds them, and lets others wait for them."""
    on_slurm.site(submit_timeout="1s")
    seeds = [0, 1, 2]
    on_slurm.tasks({"first": task(seeds=seeds), "second": task(seeds=seeds, inputs={"b": "first.out"})})
    lab.ask("scontrol", "update", "partitionname=gpu", "state=down")
    jobs = on_slurm.open().submit(EXPERIMENT).submitted
    first, second = (jobs[name].partition("_")[0] for name in ("first.s0", "second.s0"))
    lab.ask("scontrol", "uhold", second)
    lab.ask("scontrol", "update", "partitionname=gpu", "state=up")
    until(lambda: [on_slurm.run(f"first.s{seed}").status for seed in seeds] == [Status.DONE] * 3)
    for index in (0, 2):
        lab.ask("scontrol", "requeuehold", f"{first}_{index}")
    lab.ask("scontrol", "update", f"jobid={second}", f"dependency=aftercorr:{first}")
    lab.ask("scontrol", "release", second)
    stranger = lab.ask("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true").strip()
    errors = ""

    def over() -> bool:
        nonlocal errors
        done = on_slurm.cli("status")
        errors += done.stderr
        return done.code == 0 and "second     3\n" in done.stdout

    until(over)
    assert (
        "second.s0, second.s2: its scheduler still waited for first.s0, which is done; that depen" in errors
    )
    assert f"cancelling {first}_0, {first}_2, in the queue although their runs have ended" in errors
    assert lab.ask("squeue", "--noheader", "--format=%i").split() == [stranger]
    assert on_slurm.executions() == dict.fromkeys(jobs, 1)
