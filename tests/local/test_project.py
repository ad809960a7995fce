"""The life of runs, by the front door and the real local scheduler."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base import process
from ddqjobs.base.errors import MissingError, SchedulerError, StateError
from ddqjobs.planning.filters import Filters, one_run, select
from ddqjobs.project import SubmitOptions
from ddqjobs.schedulers.base import Submission
from ddqjobs.spec.model import FailureClass, JobState, Observation, PlannedRun, Status
from tests.support.trivial import EXPERIMENT, WORK, TrivialProject, task, until

# Fails until somebody makes the file `mended`.
UNTIL_MENDED = (
    'echo "$DDQJOBS_RUN" >> "$TRACE"; test -e "$TRACE.mended" && echo ok > "$DDQJOBS_WORK_DIR/out.txt"'
)
# Runs until somebody makes the file `go`.
UNTIL_GO = '''echo "$DDQJOBS_RUN" >> "$TRACE"
until test -e "$TRACE.go"; do sleep 0.1; done
echo ok > "$DDQJOBS_WORK_DIR/out.txt"'''


def sh(line: str) -> list[str]:
    return ["sh", "-c", line]


def named(*names: str) -> Filters:
    return Filters(runs=names)


def cancel(project: TrivialProject, *names: str) -> list[str]:
    front = project.open()
    plan = front.plan(EXPERIMENT)
    return front.cancel(plan, select(plan, named(*names)))


def retry(project: TrivialProject, *names: str) -> list[str]:
    front = project.open()
    plan = front.plan(EXPERIMENT)
    return front.retry(plan, select(plan, named(*names)))


CHANGED = {"products": {"out": "out.*"}}


def pair(first: Mapping[str, Any], second: Mapping[str, Any] = types.MappingProxyType({})) -> dict[str, Any]:
    return {"first": task(**first), "second": task(inputs={"before": "first.out"}, **second)}


def summary(planned: PlannedRun) -> tuple[Status, str]:
    return planned.status, planned.reason


def test_a_run_that_exits_0_without_its_product_has_failed(
    trivial: TrivialProject,
) -> None:
    trivial.tasks(pair({"command": sh('echo "$DDQJOBS_RUN" >> "$TRACE"')}))
    plan = trivial.submit_all()
    why = "no product: it exited 0 without its product, nothing matches 'out.txt' of out"
    assert summary(plan["first"]) == (Status.FAILED, why)
    assert summary(plan["second"]) == (Status.WAITING, "needs first, which failed (no product)")
    assert trivial.executions() == {"first": 1}


def test_a_run_that_leaves_no_files_is_done_only_if_it_exits_0(trivial: TrivialProject) -> None:
    trivial.tasks(
        {"good": task(products={}, command=sh("true")), "bad": task(products={}, command=sh("exit 3"))}
    )
    plan = trivial.submit_all()
    assert plan["good"].status is Status.DONE
    assert plan["bad"].status is Status.FAILED, plan["bad"].reason


def test_a_run_whose_product_is_whole_although_its_process_died_is_done_with_a_note(
    trivial: TrivialProject,
) -> None:
    trivial.tasks({"first": task(command=sh('echo ok > "$DDQJOBS_WORK_DIR/out.txt"; kill -9 $$'))})
    first = trivial.submit_all()["first"]
    assert first.status is Status.DONE
    assert first.notes == ("the product is whole although the task ended with code 137",)


def test_a_product_is_recorded_with_its_note_though_somebody_looks_before_the_script_has_said_all(
    trivial: TrivialProject,
) -> None:
    # Braces by their numbers: as such they would be a placeholder.
    product = r"""printf '\173"run":"first","digest":"","kind":"smoke","attempt":1,"ticket":"%s"\175' """
    early = product + '"$DDQJOBS_TICKET" > "$DDQJOBS_RUN_DIR/product.json"; '
    trivial.tasks({"first": task(command=sh(early + UNTIL_GO + "; kill -9 $$"))})
    trivial.open().submit(EXPERIMENT)
    until(lambda: trivial.executions() == {"first": 1})
    assert trivial.run("first").status is Status.ACTIVE
    trivial.trace.with_suffix(".go").touch()
    first = trivial.until_over()["first"]
    assert first.status is Status.DONE
    assert first.notes == ("the product is whole although the task ended with code 137",)


def test_dependents_of_a_failed_run_wait_and_run_after_its_retry_however_often_it_fails(
    trivial: TrivialProject,
) -> None:
    trivial.tasks(pair({"command": sh(UNTIL_MENDED)}))
    for _ in range(3):
        plan = trivial.submit_all()
        assert plan["first"].status is Status.FAILED
        assert plan["first"].failure is FailureClass.CODE
        assert summary(plan["second"]) == (Status.WAITING, "needs first, which failed (code)")
        assert retry(trivial, "first") == ["first"]
    trivial.trace.with_suffix(".mended").touch()
    plan = trivial.submit_all()
    assert [plan[name].status for name in ("first", "second")] == [Status.DONE] * 2
    assert trivial.executions() == {"first": 4, "second": 1}


def test_a_retry_of_what_has_not_failed_changes_nothing(trivial: TrivialProject) -> None:
    assert retry(trivial, "first") == []
    assert not (trivial.results / "ledger").exists()


def test_a_failure_of_unknown_cause_is_retried_once_and_not_again(
    trivial: TrivialProject,
) -> None:
    trivial.tasks({"first": task(command=sh('echo "$DDQJOBS_RUN" >> "$TRACE"; kill -11 $$'))})
    ran = trivial.cli("submit", EXPERIMENT, "--wait")
    assert ran.code == 1
    assert ran.stdout.count("first: retry 1 of 1 after unknown: ended by signal 11\n") == 1
    assert summary(trivial.run("first")) == (
        Status.FAILED,
        "unknown: ended by signal 11; all 1 retries are used up",
    )
    assert trivial.executions() == {"first": 2}


def test_a_run_that_outlasts_its_time_limit_has_timed_out(trivial: TrivialProject) -> None:
    trivial.tasks({"first": task(command=sh("sleep 60"), resources={"time": "2s"})})
    trivial.open().submit(EXPERIMENT)
    first = trivial.until_over()["first"]
    assert first.failure is FailureClass.TIMEOUT
    assert first.reason.startswith("retry 1 of 10 after timeout: ")


def test_cancelled_runs_queued_or_running_fail_and_complete_after_retry(
    trivial: TrivialProject,
) -> None:
    trivial.tasks(pair({"command": sh(UNTIL_GO)}))
    trivial.open().submit(EXPERIMENT)
    until(lambda: trivial.executions() == {"first": 1})
    assert trivial.run("second").state is JobState.QUEUED
    assert cancel(trivial, "first", "second") == ["first", "second"]
    plan = trivial.until_over()
    assert summary(plan["first"]) == (Status.FAILED, "cancelled by the user")
    assert summary(plan["second"]) == (Status.FAILED, "cancelled by the user before it started")
    assert trivial.open().submit(EXPERIMENT).submitted == {}
    assert cancel(trivial, "first") == []
    assert retry(trivial, "*") == ["first", "second"]
    trivial.trace.with_suffix(".go").touch()
    assert {planned.status for planned in trivial.submit_all().values()} == {Status.DONE}
    assert trivial.executions() == {"first": 2, "second": 1}


def test_a_job_that_its_scheduler_has_forgotten_can_be_cancelled(trivial: TrivialProject) -> None:
    trivial.tasks({"first": task(command=sh(UNTIL_GO))})
    trivial.open().submit(EXPERIMENT)
    until(lambda: trivial.executions() == {"first": 1})
    queue = trivial.root / "results" / ".local"
    queue.rename(queue.with_name("lost"))
    assert trivial.run("first").state is JobState.UNKNOWN
    assert cancel(trivial, "first") == ["first"]
    assert trivial.run("first").status is Status.FAILED
    assert "does not know the job any more" in trivial.run("first").reason
    assert retry(trivial, "first") == ["first"]

    trivial.trace.with_suffix(".go").touch()  # the forgotten one runs to its end, and has no right to
    attempt = trivial.results / "runs" / "first" / "attempts" / "1"
    until((attempt / "exit.json").exists)
    assert not (trivial.results / "runs" / "first" / "product.json").exists()
    assert trivial.submit_all()["first"].status is Status.DONE
    assert trivial.executions() == {"first": 2}


def test_a_job_that_was_forgotten_before_it_started_is_submitted_again(trivial: TrivialProject) -> None:
    site = {"base": "local", "grace": "0s", "submit_timeout": "0s", "local": {"cpus": 1}}
    trivial.write("templates/local/site.yaml", site)
    trivial.tasks({"first": task(command=sh(UNTIL_GO)), "second": task()})
    trivial.open().submit(EXPERIMENT)
    until(lambda: trivial.executions() == {"first": 1})
    queue = trivial.root / "results" / ".local"
    queue.rename(queue.with_name("lost"))
    assert trivial.run("second").state is JobState.UNKNOWN
    plan = {planned.run.name: planned for planned in trivial.plan().runs}
    assert plan["second"].status is Status.ELIGIBLE
    assert plan["first"].status is Status.ACTIVE  # it had started: that it is forgotten proves nothing
    trivial.trace.with_suffix(".go").touch()
    trivial.submit_all()
    assert trivial.statuses() == {Status.DONE: 2}
    assert trivial.executions() == {"first": 1, "second": 1}


def test_a_script_that_was_killed_with_all_it_started_is_found_and_retried(trivial: TrivialProject) -> None:
    trivial.tasks({"first": task(command=sh(UNTIL_GO))})
    trivial.open().submit(EXPERIMENT)
    until(lambda: trivial.executions() == {"first": 1})
    os.killpg(script_group(trivial), signal.SIGKILL)
    first = trivial.until_over()["first"]
    assert first.failure is FailureClass.NODE
    assert first.reason.endswith("its script was ended before it could say why")
    trivial.trace.with_suffix(".go").touch()
    assert trivial.submit_all()["first"].status is Status.DONE


def script_group(project: TrivialProject) -> int:
    """The process group of the only job script."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in project.processes()}
    (group,) = {os.getpgid(pid) for pid, line in lines.items() if b"job.sh" in line}
    return group


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"products": {"out": "out.*"}}, "definition"),
        ({"config": "configs/new.py"}, "config"),
    ],
)
def test_a_changed_run_is_stale_and_only_stale_runs_it_again_with_what_comes_after(
    trivial: TrivialProject, change: dict[str, Any], part: str
) -> None:
    trivial.write("experiments/configs/old.py", {})
    trivial.write("experiments/configs/new.py", {"lr": 1})
    trivial.tasks(pair({"config": "configs/old.py"}))
    trivial.submit_all()
    trivial.tasks(pair({"config": "configs/old.py", **change}))
    plan = {planned.run.name: planned for planned in trivial.plan().runs}
    assert part in plan["first"].stale
    assert (plan["second"].status, plan["second"].stale) == (
        Status.DONE, "stale: upstream changed since it ran"
    )  # fmt: skip
    assert trivial.open().submit(EXPERIMENT).submitted == {}
    submitted = trivial.open().submit(EXPERIMENT, options=SubmitOptions(stale=True)).submitted
    assert list(submitted) == ["first", "second"]
    plan = trivial.until_over()
    assert [(planned.status, planned.stale) for planned in plan.values()] == [(Status.DONE, "")] * 2
    assert trivial.executions() == {"first": 2, "second": 2}


def test_stale_runs_for_which_the_queue_had_no_room_go_later(trivial: TrivialProject) -> None:
    trivial.tasks(pair({}))
    trivial.submit_all()
    trivial.local_site(limits={"jobs_in_queue": 1})
    trivial.tasks(pair(CHANGED))
    plan = trivial.open().wait(EXPERIMENT, options=SubmitOptions(stale=True))
    assert [(planned.status, planned.stale) for planned in plan.runs] == [(Status.DONE, "")] * 2
    assert trivial.executions() == {"first": 2, "second": 2}


def test_what_is_still_stale_in_the_end_is_not_done(trivial: TrivialProject) -> None:
    trivial.tasks(pair({}))
    trivial.submit_all()
    trivial.tasks(pair(CHANGED))
    ended = trivial.cli("submit", "second", "--stale", "--wait")
    assert ended.code == 1, ended
    assert "error: second: done: stale: upstream changed since it ran" in ended.stderr
    trivial.tasks(pair(CHANGED), work="exit 3")
    ended = trivial.cli("submit", "--stale", "--wait")
    assert ended.code == 1, ended
    assert "a later repeat failed: exit 3" in ended.stderr
    trivial.tasks(pair(CHANGED))
    assert trivial.cli("submit", "--stale", "--wait").code == 0


def test_a_stale_result_is_not_built_on_unasked(trivial: TrivialProject) -> None:
    trivial.tasks(pair({}))
    trivial.open().submit(EXPERIMENT, named("first"))
    trivial.until_over()
    trivial.tasks(pair(CHANGED))
    outcome = trivial.open().submit(EXPERIMENT, named("second"))
    assert outcome.submitted == {}
    assert outcome.left["second"].startswith("needs first, which is stale")
    both = trivial.open().submit(EXPERIMENT, options=SubmitOptions(stale=True))
    assert list(both.submitted) == ["first", "second"]
    assert [(planned.status, planned.stale) for planned in trivial.until_over().values()] == [
        (Status.DONE, "")
    ] * 2


def test_accepted_results_of_a_chain_count_for_what_comes_after(trivial: TrivialProject) -> None:
    trivial.tasks(pair({}))
    trivial.submit_all()
    trivial.tasks(pair(CHANGED, CHANGED))
    project = trivial.open()
    plan = project.plan(EXPERIMENT)
    assert [planned.stale for planned in plan.runs] == [
        "stale: definition changed since it ran",
        "stale: definition and upstream changed since it ran",
    ]
    after = project.accept(plan, plan.runs, "the same file")
    assert [planned.stale for planned in after.runs] == ["", ""]
    though = "definition changed: the same file"
    assert [planned.accepted.partition("though ")[2] for planned in after.runs] == [though, though]
    assert trivial.executions() == {"first": 1, "second": 1}


def test_optional_runs_are_submitted_when_named_or_asked_for(trivial: TrivialProject) -> None:
    trivial.tasks({"plain": task(), "extra": task(optional=True), "after": task(inputs={"b": "extra.out"})})
    outcome = trivial.open().submit(EXPERIMENT)
    assert list(outcome.submitted) == ["plain"]
    assert outcome.left == dict.fromkeys(["extra", "after"], "optional: name it, or add --optional")
    assert list(trivial.open().submit(EXPERIMENT, named("extra")).submitted) == ["extra"]
    assert list(trivial.open().submit(EXPERIMENT, options=SubmitOptions(optional=True)).submitted) == [
        "after"
    ]
    assert {planned.status for planned in trivial.until_over().values()} == {Status.DONE}


def test_upstream_brings_what_the_chosen_run_needs(trivial: TrivialProject) -> None:
    front = trivial.open()
    assert front.submit(EXPERIMENT, named("second")).submitted == {}
    chosen = front.submit(EXPERIMENT, named("second"), SubmitOptions(upstream=True)).submitted
    assert list(chosen) == ["first", "second"]


def test_advance_touches_only_what_was_submitted_before(trivial: TrivialProject) -> None:
    trivial.tasks({"first": task(command=sh(UNTIL_MENDED + "|| kill -11 $$")), "other": task()})
    assert trivial.open().advance(EXPERIMENT).submitted == {}
    trivial.open().submit(EXPERIMENT, named("first"))
    trivial.until_over()
    trivial.trace.with_suffix(".mended").touch()
    assert list(trivial.open().advance(EXPERIMENT).submitted) == ["first"]
    trivial.until_over()
    assert trivial.open().advance(EXPERIMENT).submitted == {}
    assert trivial.executions() == {"first": 2}


def test_a_product_that_vanished_reads_product_missing_and_is_not_made_again(
    trivial: TrivialProject,
) -> None:
    trivial.submit_all()
    (trivial.results / "runs" / "first").rename(trivial.root / "elsewhere")
    first = trivial.run("first")
    assert first.status is Status.DONE
    assert first.reason.startswith("product missing")
    assert trivial.open().submit(EXPERIMENT).submitted == {}


class Silent:
    """A scheduler that cannot be asked."""

    def submit(self, submission: Submission) -> Mapping[int, str]:
        raise SchedulerError("no answer")

    def find(self, token: str) -> Mapping[int, str] | None:
        raise SchedulerError("no answer")

    def in_queue(self) -> int:
        raise SchedulerError("no answer")

    def query(self, jobs: Sequence[str]) -> Mapping[str, Observation]:
        raise SchedulerError("no answer")

    def hold(self, jobs: Sequence[str]) -> None:
        raise SchedulerError("no answer")

    def release(self, jobs: Sequence[str]) -> None:
        raise SchedulerError("no answer")

    def cancel(self, jobs: Sequence[str]) -> None:
        raise SchedulerError("no answer")


def test_a_scheduler_that_does_not_answer_changes_nothing(trivial: TrivialProject) -> None:
    trivial.tasks(pair({"command": sh(UNTIL_GO)}))
    trivial.open().submit(EXPERIMENT)
    until(lambda: trivial.run("first").state is JobState.RUNNING)
    workspace = trivial.open().workspace(EXPERIMENT)
    workspace._schedulers["local"] = Silent()
    plans = [workspace.plan() for _ in range(3)]
    for plan in plans:
        assert [planned.status for planned in plan.runs] == [Status.ACTIVE] * 2
        assert all(
            planned.reason.startswith("unknown since") and planned.reason.endswith(", no answer")
            for planned in plan.runs
        )
    assert [planned.since for planned in plans[0].runs] == [planned.since for planned in plans[2].runs]
    assert workspace.warnings == ["site local: no answer"]
    trivial.trace.with_suffix(".go").touch()
    assert {planned.status for planned in trivial.submit_all().values()} == {Status.DONE}
    assert trivial.executions() == {"first": 1, "second": 1}


def test_a_scheduler_that_refuses_leaves_the_runs_free(trivial: TrivialProject) -> None:
    front = trivial.open()
    front.workspace(EXPERIMENT)._schedulers["local"] = Silent()
    with pytest.raises(SchedulerError, match="no answer"):
        front.submit(EXPERIMENT)
    assert trivial.statuses() == {Status.ELIGIBLE: 1, Status.WAITING: 1}
    trivial.submit_all()
    assert trivial.executions() == {"first": 1, "second": 1}


def test_the_log_of_a_run_that_never_started_says_what_the_run_is_doing(trivial: TrivialProject) -> None:
    front = trivial.open()
    plan = front.plan(EXPERIMENT)
    with pytest.raises(MissingError, match="has not started on any node, so it has no log; it is eligible"):
        front.log(plan, "first")
    with pytest.raises(MissingError, match="no run 'frist'; did you mean 'first'"):
        one_run(plan, "frist")


def test_the_log_of_an_attempt_is_found(trivial: TrivialProject) -> None:
    trivial.tasks({"first": task(command=sh("echo hello; " + WORK + '; cp out.txt "$DDQJOBS_WORK_DIR"'))})
    trivial.submit_all()
    front = trivial.open()
    plan = front.plan(EXPERIMENT)
    assert front.log(plan, "first").read_text().startswith("hello\n")
    assert [a.number for a in front.attempts(plan, "first")] == [1]
    with pytest.raises(MissingError, match="no attempt 2; there are: 1"):
        front.log(plan, "first", 2)


def test_a_dry_run_shows_everything_and_writes_nothing(trivial: TrivialProject) -> None:
    rendered, omissions = trivial.open().dry_run(EXPERIMENT)
    assert [r.runs for r in rendered] == [("first",), ("second",)]
    assert omissions == {}
    assert not (trivial.root / "results").exists()


def test_a_budget_in_gpu_hours_leaves_out_what_does_not_fit(trivial: TrivialProject) -> None:
    trivial.tasks(
        {
            "a": task(resources={"gpus": 2}, hours=1),
            "b": task(resources={"gpus": 2}, hours=3),
            "c": task(inputs={"x": "b.out"}),
            "d": task(resources={"gpus": 1}),
        }
    )
    rendered, omissions = trivial.open().dry_run(EXPERIMENT, options=SubmitOptions(max_gpu_hours=4))
    assert [r.runs for r in rendered] == [("a",)]
    assert omissions["b"] == "6 GPU hours more than --max-gpu-hours 4 leaves (2)"
    assert omissions["c"] == "what it needs is left out"
    assert omissions["d"].startswith("it declares no duration")


def test_without_room_for_results_nothing_is_submitted(trivial: TrivialProject) -> None:
    (trivial.root / "results").touch()
    with pytest.raises(StateError, match="run the same command again"):
        trivial.open().submit(EXPERIMENT)


def test_a_product_that_has_vanished_is_made_again_only_when_asked_for(trivial: TrivialProject) -> None:
    trivial.submit_all()
    shutil.rmtree(trivial.results / "runs" / "first" / "attempts")
    assert trivial.run("first").gone
    assert trivial.run("first").status is Status.DONE
    assert trivial.open().submit(EXPERIMENT).submitted == {}
    assert "first" not in trivial.open().products(EXPERIMENT)
    again = SubmitOptions(stale=True)
    assert "first" in trivial.open().submit(EXPERIMENT, Filters(runs=("first",)), again).submitted
    trivial.until_over()
    assert trivial.executions()["first"] == 2
    assert not trivial.run("first").gone


def test_a_run_that_the_site_refuses_does_not_hold_up_the_others(trivial: TrivialProject) -> None:
    trivial.tasks({"huge": task(resources={"gpus": 9999}), "small": task()})
    outcome = trivial.open().submit(EXPERIMENT)
    assert list(outcome.submitted) == ["small"]
    assert "asks for 9999 GPUs" in outcome.refused["huge"]
    assert trivial.until_over()["small"].status is Status.DONE


def test_a_run_that_the_experiment_has_no_more_is_told_and_can_be_cancelled(trivial: TrivialProject) -> None:
    trivial.tasks({"first": task(), "other": task()}, UNTIL_GO)
    trivial.open().submit(EXPERIMENT)
    until(lambda: trivial.executions() == {"first": 1, "other": 1})
    trivial.tasks({"other": task()}, UNTIL_GO)
    message = "first: no run of the experiment any more, and has a job that has not ended"
    result = trivial.cli("status", EXPERIMENT)
    assert (result.code, result.stderr.count(message)) == (3, 1), result
    assert trivial.cli("cancel", EXPERIMENT, "fisrt", "--yes").code == 2
    cancelled = trivial.cli("cancel", EXPERIMENT, "first", "--yes")
    assert (cancelled.code, cancelled.stdout) == (0, "cancelling 1 run\n"), cancelled
    until(lambda: message not in trivial.cli("status", EXPERIMENT).stderr)
    trivial.trace.with_name("trace.go").touch()
    assert trivial.until_over()["other"].status is Status.DONE
    assert trivial.executions() == {"first": 1, "other": 1}


def test_a_copy_of_a_project_leaves_the_jobs_of_the_other_alone(trivial: TrivialProject) -> None:
    trivial.local_site(local={"cpus": 1})
    trivial.tasks({"first": task(), "second": task()}, UNTIL_GO)
    trivial.open().submit(EXPERIMENT)
    until(lambda: sum(trivial.executions().values()) == 1)
    copy = trivial.root.with_name("copy")
    shutil.copytree(trivial.root, copy, symlinks=True)
    for arguments in (["status"], ["cancel", "--yes"], ["submit"]):
        ran = process.run([sys.executable, "-m", "ddqjobs", *arguments], timeout=120, cwd=copy)
        assert ran.code == 3, ran
        assert f"this project is a copy, and the jobs belong to {trivial.root}" in ran.stderr
        assert "Traceback" not in ran.stderr
    trivial.trace.with_name("trace.go").touch()
    assert {planned.status for planned in trivial.until_over().values()} == {Status.DONE}
    assert trivial.executions() == {"first": 1, "second": 1}


def test_a_project_that_was_moved_goes_on(trivial: TrivialProject) -> None:
    trivial.submit_all()
    moved = trivial.root.with_name("moved")
    trivial.root.rename(moved)
    try:
        ran = process.run([sys.executable, "-m", "ddqjobs", "status", "--runs"], timeout=120, cwd=moved)
        assert (ran.code, ran.stdout.count("done")) == (0, 3), ran
    finally:
        moved.rename(trivial.root)
