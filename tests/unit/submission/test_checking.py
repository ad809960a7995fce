"""Configurations are checked before anything is submitted."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import msgspec
import pytest

from ddqjobs.base import process
from ddqjobs.base.errors import SchedulerError
from ddqjobs.planning.canary import _options as with_canary
from ddqjobs.planning.matrix import _options
from ddqjobs.project import Project
from ddqjobs.schedulers.slurm.scheduler import SlurmScheduler
from ddqjobs.spec.code import Code
from ddqjobs.spec.dataset import Dataset
from ddqjobs.spec.experiment import Experiment, Task, Variant
from ddqjobs.spec.model import Input, Resources, Run, TaskKind
from ddqjobs.submission import configurations, words
from ddqjobs.submission.checking import Checking, _program
from ddqjobs.submission.configurations import without_seed
from tests.support import checks
from tests.support.trivial import EXPERIMENT, TrivialProject, a_run

TRAIN = ("{python}", "tools/train.py", "{config}", "--work-dir", "{work_dir}", "{options}")


@pytest.fixture
def project(trivial: TrivialProject) -> TrivialProject:
    trivial.local_site(activate=checks.entered(trivial))
    checks.detector(trivial)
    return trivial


def experiment(**keys: object) -> Experiment:
    base = {"name": "e", "implementations": {}, "models": {}, "codes": {"mm": Code()}}
    return msgspec.convert({**base, "tasks": {}, **keys}, Experiment)


def of(run: Run, e: Experiment | None = None) -> configurations.Configuration:
    configuration = configurations.of(run, e or experiment(), "/results/e", "/project")
    assert configuration is not None
    return configuration


def checked(project: TrivialProject, site: str) -> tuple[Project, Checking]:
    opened = project.open()
    workspace = opened.workspace(EXPERIMENT, site)
    return opened, Checking(workspace, opened.environments(workspace.site))


def training(**keys: object) -> Run:
    run = a_run(kind=TaskKind.TRAIN, code="mm", config="configs/a.py", command=TRAIN, options=("lr=1",))
    return msgspec.structs.replace(run, **keys)


def test_what_a_command_loads_and_with_which_options() -> None:
    assert of(training()).config == "configs/a.py"
    assert of(training()).options == ("lr=1",)
    weights = {
        "r50": {"url": "https://x/r50-1.pth?a=b"},
        "released": {"url": "https://x/a.pth", "path": "a.pth"},
    }
    assert of(training(), experiment(weights=weights)).weights == ("r50-1.pth",)
    assert of(training()).variables["DDQJOBS_CONFIG"] == "./configs/a.py"
    argv = ("bash", "tools/test.sh", "{code}/configs/b.py", "--cfg-options", "out={work_dir}/r", "{options}")
    assert of(training(command=argv)).config == "{code}/configs/b.py"
    program = ("{python}", "{code}/configs/train.py", "{config}")
    assert of(training(command=program)).config == of(training()).config
    assert of(training(command=argv)).options == ("out=/work_dir/r", "lr=1")
    assert of(training(command=(*TRAIN, "--eval-options", "a=1"))).options == ("lr=1",)
    filled = (*TRAIN[:-1], "--cfg-options", "load_from={input.init}", "n={gpus}")
    inputs = (("init", Input(artifact="init", path="w.pth")),)
    assert of(training(command=filled, inputs=inputs)).options == ("load_from=/project/w.pth", "n=0")
    assert configurations.of(training(command=("sh", "-c", "cat a")), experiment(), "/r", "/p") is None


def test_how_many_processes_share_a_batch() -> None:
    eight = Resources(nodes=2, gpus=4, time_s=60)
    assert of(training(resources=eight)).processes == 8
    assert of(training(resources=eight, command=(*TRAIN, "--auto-scale-lr"))).processes == 0
    assert of(training()).processes == 0


def test_a_command_that_does_otherwise_than_the_experiment_says_is_named() -> None:
    def named(run: Run) -> list[tuple[str, str]]:
        return [(one["level"], one["text"]) for one in configurations.contradictions(run, "")]

    command = (*TRAIN[:-1], "--cfg-options", "lr=2", "{options}", "out={work_dir}")
    assert named(training(command=command)) == []
    again = "option lr: the command sets lr=2 after lr=1; take it out of the command"
    assert named(training(command=(*command, "lr=2"))) == [("error", again)]
    inputs = (("weights", Input(artifact="checkpoint", run="up")),)
    test = training(kind=TaskKind.TEST, inputs=inputs)
    text = "the command does not name {input.weights}, the checkpoint of up: is it tested?"
    assert named(test) == [("warning", text)]
    assert named(msgspec.structs.replace(test, command=(*TRAIN, "{input.weights}"))) == []


def test_which_data_is_the_run_s() -> None:
    inputs = (("data", Input(artifact="data", run="up")), ("init", Input(artifact="init", path="w.pth")))
    configuration = of(training(inputs=inputs))
    assert configuration.own == ("/results/e/runs/up/artifacts/data", "/project/w.pth")
    assert configuration.variables["DDQJOBS_INPUT_DATA"] == configuration.own[0]
    assert configuration.declared
    assert not of(training(inputs=inputs[1:])).declared
    coco = Dataset(path="~/coco", link="data/coco", codes=["mm"])
    assert of(training(), experiment(datasets={"coco": coco})).own == ("~/coco", "data/coco")
    other = msgspec.structs.replace(coco, codes=["another"])
    assert of(training(), experiment(datasets={"coco": other})).own == ()


def test_which_programs_may_register_types_by_themselves() -> None:
    ours = ("{python}", "-m", "ddqjobs.detect.capture", "{config}")
    assert of(training()).registers
    assert not of(training(command=ours)).registers
    assert of(training(command=(*ours, "--imports", "projects"))).registers


def test_seeds_are_checked_once_and_so_are_those_that_read_their_products() -> None:
    one, two = (
        training(
            seed=n,
            options=("lr=1", f"seed={n}"),
            inputs=(("checkpoint", Input(artifact="checkpoint", run=f"train.m.s{n}")),),
        )
        for n in (1, 2)
    )
    assert of(one) != of(two)
    assert of(without_seed(one, "seed")) == of(without_seed(two, "seed"))
    assert of(without_seed(one, "")) != of(without_seed(two, ""))  # the code has no option for a seed
    another = msgspec.structs.replace(two, inputs=(("checkpoint", Input(artifact="checkpoint", run="b.s2")),))
    assert of(without_seed(another, "seed")) != of(without_seed(one, "seed"))


def test_where_the_experiment_says_an_option() -> None:
    e = experiment(
        tasks={"t": Task(kind=TaskKind.TRAIN, options={"+lr": 1})}, variants={"v": Variant(options={"a": 1})}
    )
    assert next(configurations.places(training(variant="v"), e, "a")) == ("variants", "v", "options", "a")
    assert next(configurations.places(training(), e, "lr")) == ("tasks", "t", "options", "+lr")
    assert next(configurations.places(training(), e, "b")) == ("tasks", "t")


def test_a_plus_is_for_the_check_alone() -> None:
    assert _options({"+a.b": 1, "c": 2}, {"a.b": 3}) == ("+a.b=3", "c=2")
    assert with_canary(("+a.b=1", "c=2"), {"a.b": 3}) == ("c=2", "a.b=3")
    run = training(options=("+a.b=3",))
    assert words.command(run, "--cfg-options").endswith(" --cfg-options a.b=3")


def test_an_added_option_leaves_the_digest_as_it_is(project: TrivialProject) -> None:
    before = project.run("first").run
    assert "+extra.key=3" in before.options
    path = project.root / f"experiments/{EXPERIMENT}.yaml"
    path.write_text(path.read_text().replace("+extra", "extra"))
    assert project.run("first").run.digest == before.digest


def test_what_cannot_be_checked_is_said_and_runs_all_the_same(project: TrivialProject) -> None:
    done = project.cli("check", EXPERIMENT)
    assert done.code == 2
    why = "not checked in environment tiny: ModuleNotFoundError: No module named 'torch'"
    assert done.stderr.splitlines()[0] == f"error: {why}"
    assert "0 of 1 configuration passed (1 run), 1 not checked\n" in done.stdout
    done = project.cli("submit", EXPERIMENT)
    assert done.code == 0, done.stderr
    assert "checking 1 configuration in environment tiny" in done.stdout
    assert "warning: not checked in environment tiny: ModuleNotFoundError" in done.stdout
    assert not (project.results / "checks").exists()
    assert list((project.results / ".jobs/checks").iterdir()) == []


def test_an_environment_that_declares_no_requirements_is_asked(project: TrivialProject) -> None:
    for name in ("requirements.txt", "lock.txt"):
        (project.root / "envs/tiny" / name).unlink()
    done = project.cli("check", EXPERIMENT)
    why = "not checked in environment tiny: ModuleNotFoundError: No module named 'torch'"
    assert (done.code, done.stderr.splitlines()[0]) == (2, f"error: {why}")
    assert f"warning: {why}" in project.cli("submit", EXPERIMENT).stdout


def test_runs_without_an_environment_are_checked_where_a_check_is_asked_for(project: TrivialProject) -> None:
    path = project.root / f"experiments/{EXPERIMENT}.yaml"
    path.write_text(re.sub(r'"environment": "tiny",?', "", path.read_text()))
    bare = project.root / "python"  # without packages, whatever the tests' own has
    bare.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n')
    bare.chmod(0o755)
    project.local_site(python=str(bare))
    done = project.cli("check", EXPERIMENT)
    why = "not checked without an environment: ModuleNotFoundError: No module named 'torch'"
    assert (done.code, done.stderr.splitlines()[0]) == (2, f"error: {why}")
    assert "checking 1 configuration without an environment\n" in done.stdout
    done = project.cli("submit", EXPERIMENT)
    assert (done.code, "check" in done.stdout + done.stderr) == (0, False)


def test_an_environment_that_asks_for_no_torch_is_why_its_configurations_are_not_checked(
    project: TrivialProject,
) -> None:
    project.local_site()
    (project.root / "envs/tiny/requirements.txt").write_text("numpy\n")
    done = project.cli("check", EXPERIMENT)
    why = "its requirements do not ask for torch, without which no configuration can be loaded"
    assert (done.code, done.stderr.splitlines()) == (2, [f"error: not checked in environment tiny: {why}"])
    assert "0 of 1 configuration passed (1 run), 1 not checked\n" in done.stdout


def test_a_check_where_an_environment_is_not_built_says_so_in_one_sentence(project: TrivialProject) -> None:
    project.local_site()
    done = project.cli("check", EXPERIMENT)
    why = "not checked in environment tiny: it is not built; run `ddqjobs env build tiny`"
    assert (done.code, done.stderr) == (2, f"error: {why}\n")
    assert done.stdout == "0 of 1 configuration passed (1 run), 1 not checked\n"
    assert json.loads(project.cli("check", EXPERIMENT, "--json").stdout)["not_checked"] == 1


def test_a_check_of_runs_that_load_no_configuration_says_so(trivial: TrivialProject) -> None:
    done = trivial.cli("check", EXPERIMENT)
    why = "no command of the selected runs loads one"
    line = f"0 of 0 configurations passed (0 runs), 0 checked now; {why}\n"
    assert (done.code, done.stdout) == (0, line)


def test_a_code_tree_that_is_not_there_is_why_its_configurations_are_not_checked(
    project: TrivialProject,
) -> None:
    path = project.root / f"experiments/{EXPERIMENT}.yaml"
    path.write_text(
        path.read_text().replace('"environment": "tiny"', '"environment": "tiny", "path": "/no/tree"')
    )
    done = project.cli("check", EXPERIMENT)
    why = "error: not checked in environment tiny: /no/tree: No such file or directory"
    assert (done.code, done.stderr.splitlines()[0]) == (2, why)


def test_a_check_removes_what_killed_ones_left(project: TrivialProject) -> None:
    leftovers = project.results / ".jobs/checks"
    for name in ("killed", "under-way"):
        (leftovers / name).mkdir(parents=True)
        (leftovers / name / "0.sh").write_text("export TOKEN=secret\n")
    os.utime(leftovers / "killed", (1e9, 1e9))
    assert project.cli("check", EXPERIMENT).code == 2
    assert [path.name for path in leftovers.iterdir()] == ["under-way"]


def test_looking_executes_nothing_and_no_check_leftnothing(project: TrivialProject) -> None:
    for command in (("plan",), ("submit", "--dry-run")):
        assert project.cli(*command, EXPERIMENT).code == 0
        assert not (project.results / ".jobs").exists()
    done = project.cli("submit", EXPERIMENT, "--no-check")
    assert done.code == 0, done.stderr
    assert "check" not in done.stdout + done.stderr
    assert not (project.results / ".jobs").exists()
    done = project.cli("check", EXPERIMENT)  # asked in so many words
    assert (done.code, "0 of 1 configuration passed (1 run), 1 not checked" in done.stdout) == (2, True)


def test_runs_that_differ_in_their_seed_alone_are_one_configuration(project: TrivialProject) -> None:
    path = project.root / f"experiments/{EXPERIMENT}.yaml"
    content = json.loads(path.read_text())
    first = content["tasks"]["first"]
    first |= {"seeds": [0, 1000, 2000], "products": {"out": "out.txt"}}
    content["tasks"]["second"] = {**first, "inputs": {"before": "first.out"}}
    path.write_text(json.dumps(content))
    assert "0 of 2 configurations passed (6 runs), " in project.cli("check", EXPERIMENT).stdout


def test_what_is_not_checked_stays_so_until_it_is_submitted_again(project: TrivialProject) -> None:
    opened, checking = checked(project, "local")
    runs = [planned.run for planned in opened.plan(EXPERIMENT, refresh=False).runs]

    def said(*, waive: bool = False, keep: bool = False) -> list[str]:
        lines: list[str] = []
        checking.before(runs, lines.append, waive=waive, keep=keep)
        return lines

    for keys in ({"waive": True}, {"keep": True}):
        assert said(**keys) == []
        assert "first" in checking.waived(runs)
    assert said()[0] == "checking 1 configuration in environment tiny"
    assert not checking.waived(runs)


def test_a_helper_job_that_is_refused_keeps_nothing_back(
    project: TrivialProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "Batch job submission failed: Job violates accounting/QOS policy"
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\necho 'sbatch: error: {why}' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    site = {"name": "slurm", "scheduler": "slurm", "activate": checks.entered(project), "slurm": {}}
    project.write("templates/slurm/site.yaml", site)
    opened, checking = checked(project, "slurm")
    runs = [planned.run for planned in opened.plan(EXPERIMENT, site="slurm", refresh=False).runs]
    messages: list[str] = []
    for _ in range(2):  # rounds of --wait: what gave no answer is not asked again
        checking.before(runs, messages.append, waive=False, keep=False)
    assert messages[0] == "checking 1 configuration in environment tiny"
    assert "warning: not checked in environment tiny: " in messages[1]
    assert why in messages[1]
    assert messages[2:] == []
    assert list((project.results / ".jobs/submissions").iterdir()) == []


def test_a_check_away_from_the_cluster_says_where_to_run_it(
    project: TrivialProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs print what Slurm 22.05 prints where it knows of no cluster."""
    why = "_establish_config_source: failed to fetch config"
    for name in ("sbatch", "squeue"):
        program = tmp_path / name
        end = f"echo '{name}: fatal: Could not establish a configuration source' >&2; exit 1"
        program.write_text(f"#!/bin/sh\necho '{name}: error: {why}' >&2\n{end}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    site = {"name": "far", "scheduler": "slurm", "activate": checks.entered(project)}
    project.write("templates/far/site.yaml", site)
    refused = project.cli("check", EXPERIMENT, "--site", "far")
    assert (refused.code, refused.stderr) == (
        3,
        f"error: site far: no Slurm cluster can be reached from this machine (sbatch: error: {why}); run "
        "this on a login node of the cluster, or choose another --site (local is this machine)\n",
    )
    with pytest.raises(SchedulerError, match=f"squeue: error: {why}.*; run this on a login node"):
        SlurmScheduler("far").query(["1"])


def test_a_process_that_checks_has_one_thread_and_no_gpu(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o755)
    shell = {"PATH": "/usr/bin:/bin", "DDQJOBS_PYTHON": str(python), "OMP_NUM_THREADS": "9"}
    done = process.run(["bash", "-c", _program(tmp_path / "0")], timeout=60, env=shell)
    threads = {f"{library}_NUM_THREADS=1" for library in ("OMP", "MKL", "OPENBLAS")}
    assert {*threads, "CUDA_VISIBLE_DEVICES="} <= set(done.stdout.splitlines())
