"""experiments/ddq.yaml: the paper's plan as runs, and the scripts that they become."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ddqjobs.environments import environment
from ddqjobs.planning import canary, matrix
from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.donau.options import of
from ddqjobs.spec import reader
from ddqjobs.spec.check import experiment
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run, TaskKind
from ddqjobs.spec.reader import Document
from ddqjobs.spec.shipped import Files
from ddqjobs.spec.site import Site
from ddqjobs.submission.script import Context, Renderer, Scripts, option_flags
from ddqjobs.submission.words import command
from tests.support import golden, shellcheck
from tests.support.paths import ROOT

FCN_AND_RCNN = ("ddq-fcn-12e", "ddq-fcn-36e", "ddq-rcnn-12e", "ddq-rcnn-36e")
DETR = ("ddq-detr-4scale", "ddq-detr-5scale", "ddq-detr-swinl")
MODELS = (*FCN_AND_RCNN, *DETR)
SITES = ("bscc", "slurm", "local")
RENDERER = Renderer([ROOT / "templates"])
TOKEN = "20260101-000000-0badcafe"

GOLDEN: dict[str, tuple[tuple[str, ...], ...]] = {
    "bscc": (
        ("p1-test.ddq-fcn-12e",),
        ("p1-test.ddq-detr-swinl",),
        ("p2-convert.ddq-detr-4scale",),
        ("p3-train.ddq-fcn-12e.ddq_fcn_4gpu",),
        ("p3-train-1gpu.ddq-detr-4scale.seed7-det",),
        ("p4-train.ddq-detr-4scale",),
    ),
    "slurm": (
        ("p2-unittest",),
        ("p2-test.ddq-detr-4scale", "p2-test.ddq-detr-5scale", "p2-test.ddq-detr-swinl"),
        ("p2-align.ddq-detr-4scale",),
        ("p4-smoke.ddq-detr-swinl",),
        ("p4-train.ddq-detr-4scale",),
    ),
}


def _none(base: str, named_by: Path) -> Path:
    raise AssertionError(f"{named_by} inherits {base}")


@pytest.fixture(scope="module")
def plan() -> Document[Experiment]:
    return reader.load(ROOT / "experiments/ddq.yaml", Experiment, _none)


@pytest.fixture(scope="module")
def runs(plan: Document[Experiment]) -> dict[str, Run]:
    return {run.name: run for run in matrix.expand(plan.value)}


def site(name: str) -> Site:
    return Catalog(ROOT).site(name)


def render(plan: Document[Experiment], runs: Sequence[Run], at: Site) -> Scripts:
    """The scripts of one submission, with everything fixed that differs from machine to machine."""
    names = {code.environment for code in plan.value.codes.values() if code.environment}
    context = Context(
        results="/data/results/ddq",
        project="/data/project",
        code="0123456789abcdef",
        token=TOKEN,
        user="alice",
        pythons={name: f"/data/environments/{name}/bin/python" for name in names},
        activate=dict(at.activate),
        option_flags=option_flags(plan.value.codes),
    )
    return RENDERER.render(runs, at, context)


def words(plan: Document[Experiment], run: Run) -> str:
    """The run's command, as the script has it."""
    return command(run, plan.value.codes[run.code].option_flag)


# ------------------------------------------------------------------------------------------------ the plan


def test_file_has_no_problems(plan: Document[Experiment]) -> None:
    known = environment.declared(Files(ROOT))

    assert experiment.check(plan.value, plan.line_of, known) == []


def test_runs_per_task(runs: dict[str, Run]) -> None:
    """(all, required) of each task."""
    total = Counter(run.task for run in runs.values())
    required = Counter(run.task for run in runs.values() if not run.optional)

    assert {task: (total[task], required[task]) for task in total} == {
        "p1-test": (7, 7),
        "p2-convert": (7, 7),
        "p2-test": (7, 7),
        "p2-align": (7, 7),
        "p2-capture-legacy": (7, 7),
        "p2-capture-new": (7, 7),
        "p2-modules": (7, 7),
        "p2-unittest": (1, 1),
        "p2-unittest-ours": (1, 1),
        "p3-train": (8, 3),
        "p3-test": (8, 3),
        "p3-train-1gpu": (3, 3),
        "p4-train": (7, 1),
        "p4-test": (7, 1),
        "p4-align": (7, 1),
        "p4-train-1gpu": (3, 3),
        "p4-align-1gpu": (2, 2),
        "p4-smoke": (2, 2),
    }


def test_names(runs: dict[str, Run]) -> None:
    per_model = "p1-test p2-convert p2-test p2-align p2-capture-legacy p2-capture-new p2-modules "
    per_model += "p3-train p3-test p4-train p4-test p4-align"
    expected = {f"{task}.{model}" for task in per_model.split() for model in MODELS}
    expected |= {f"{task}.ddq-fcn-12e.ddq_fcn_4gpu" for task in ("p3-train", "p3-test")}
    for task in ("p3-train-1gpu", "p4-train-1gpu"):
        expected |= {f"{task}.ddq-detr-4scale.{variant}" for variant in ("unseeded", "seed7", "seed7-det")}
    expected |= {f"p4-align-1gpu.ddq-detr-4scale.{variant}" for variant in ("seed7", "seed7-det")}
    expected |= {"p2-unittest", "p2-unittest-ours", "p4-smoke.ddq-detr-5scale", "p4-smoke.ddq-detr-swinl"}

    assert set(runs) == expected


def test_detr_4scale_is_trained_and_fcn_12e_in_the_legacy_code(
    runs: dict[str, Run],
) -> None:
    required = [r for r in runs.values() if r.kind is TaskKind.TRAIN and not r.optional]

    assert {r.model for r in required if r.implementation == "new"} == {"ddq-detr-4scale"}
    assert {r.model for r in required if r.implementation == "legacy"} == {"ddq-detr-4scale", "ddq-fcn-12e"}


def test_new_code_of_fcn_and_rcnn(runs: dict[str, Run]) -> None:
    """Tested with the released weights in phase 2; trained, in phase 4, only when named."""
    ours = [run for run in runs.values() if run.code == "ours" and run.model]

    assert {run.model for run in ours} == set(FCN_AND_RCNN)
    assert {run.optional for run in ours if run.phase == "2"} == {False}
    assert {run.optional for run in ours if run.phase == "4"} == {True}
    assert all(run.environment == "modern" for run in ours)
    assert all((ROOT / "experiments" / run.config).is_file() for run in ours)
    assert all(dict(run.variables)["DDQJOBS_COCO"] == "{env.HOME}/data/lvis" for run in ours)


def test_files_that_the_unit_tests_name_are_there(plan: Document[Experiment], runs: dict[str, Run]) -> None:
    named = [word for word in runs["p2-unittest-ours"].command if word.startswith("configs/")]

    assert len(named) == 4
    assert all((ROOT / "experiments" / word).is_file() for word in named)


@pytest.mark.parametrize(
    ("run", "upstream"),
    [
        ("p1-test.ddq-fcn-12e", ()),
        ("p2-convert.ddq-detr-swinl", ()),
        ("p2-test.ddq-detr-swinl", ("p2-convert.ddq-detr-swinl",)),
        ("p2-align.ddq-detr-5scale", ("p1-test.ddq-detr-5scale", "p2-test.ddq-detr-5scale")),
        ("p2-capture-legacy.ddq-fcn-12e", ()),
        ("p2-modules.ddq-fcn-12e", ("p2-capture-legacy.ddq-fcn-12e", "p2-capture-new.ddq-fcn-12e")),
        ("p3-test.ddq-fcn-12e", ("p3-train.ddq-fcn-12e",)),
        ("p3-test.ddq-fcn-12e.ddq_fcn_4gpu", ("p3-train.ddq-fcn-12e.ddq_fcn_4gpu",)),
        ("p4-test.ddq-detr-4scale", ("p4-train.ddq-detr-4scale",)),
        ("p4-align.ddq-detr-4scale", ("p3-train.ddq-detr-4scale", "p4-train.ddq-detr-4scale")),
        (
            "p4-align-1gpu.ddq-detr-4scale.seed7-det",
            ("p3-train-1gpu.ddq-detr-4scale.seed7-det", "p4-train-1gpu.ddq-detr-4scale.seed7-det"),
        ),
    ],
)
def test_upstream(runs: dict[str, Run], run: str, upstream: tuple[str, ...]) -> None:
    assert runs[run].upstream == upstream


def test_modules_are_compared_by_the_tolerance_that_judges_them(runs: dict[str, Run]) -> None:
    for name in (f"p2-modules.{model}" for model in MODELS):
        tolerance = runs[name].command[runs[name].command.index("--tolerance") + 1]
        assert float(tolerance) == dict(runs[name].tolerances)["module"]


def test_reference(plan: Document[Experiment]) -> None:
    models = plan.value.models

    assert {name: model.reference.ap for name, model in models.items()} == {
        "ddq-fcn-12e": 41.5,
        "ddq-fcn-36e": 44.8,
        "ddq-rcnn-12e": 44.6,
        "ddq-rcnn-36e": 48.1,
        "ddq-detr-4scale": 51.3,
        "ddq-detr-5scale": 52.1,
        "ddq-detr-swinl": 58.7,
    }
    assert {model.reference.source for model in models.values()} == {"README of the release"}


def test_phases(plan: Document[Experiment]) -> None:
    phases = plan.value.phases

    assert {name: (phase.against, phase.tolerance.ap) for name, phase in phases.items()} == {
        "1": ("reference", 0.1),
        "2": ("1", 0),
        "3": ("reference", 0.2),
        "4": ("3", 0.2),
    }


def test_code_trees(plan: Document[Experiment]) -> None:
    codes = plan.value.codes

    assert {name: (code.environment, code.path, code.revision) for name, code in codes.items()} == {
        "M": ("legacy", "~/ddq/legacy/proj/DDQ", "de9331e4579aaafab4d69e3a9a3c6638efc5392c"),
        "L": ("legacy-detr", "~/ddq/legacy/proj/ddq_detr", "80c7d5fd7292bd67813cee01deab1983f9633e69"),
        "N": ("new-detr", "~/ddq/new/mmdetection", "v3.3.0"),
        "ours": ("modern", "", ""),
    }


def test_trainings_have_eight_gpus_unless_the_plan_says_otherwise(runs: dict[str, Run]) -> None:
    trainings = [run for run in runs.values() if run.kind is TaskKind.TRAIN]
    odd = {run.name: run.resources.gpus for run in trainings if run.resources.gpus != 8}

    assert odd == {
        "p3-train.ddq-fcn-12e.ddq_fcn_4gpu": 4,
        **{
            f"{task}.ddq-detr-4scale.{variant}": 1
            for task in ("p3-train-1gpu", "p4-train-1gpu")
            for variant in ("unseeded", "seed7", "seed7-det")
        },
    }


def test_runs_without_a_published_figure(runs: dict[str, Run]) -> None:
    apart = {run.name for run in runs.values() if run.kind is TaskKind.TRAIN and not run.comparable}

    assert apart == {
        run.name for run in runs.values() if run.kind is TaskKind.TRAIN and run.resources.gpus != 8
    }


def test_every_run_has_an_estimate(runs: dict[str, Run]) -> None:
    assert [run.name for run in runs.values() if run.gpu_hours is None] == []
    assert all((run.hours or 0) * 3600 < run.resources.time_s for run in runs.values())


# ---------------------------------------------------------------------------------------------- commands

R50 = "ddq-detr-4scale_r50_8xb2-12e_coco.py"
SWIN = "ddq-detr-4scale_swinl_8xb2-30e_coco.py"
CHECKPOINT = '"$DDQJOBS_INPUT_CHECKPOINT"'
WORK_DIR = '"$DDQJOBS_WORK_DIR"'
RESUME = '"$DDQJOBS_CODE"/configs/ddq/resume.py'
RESUME_MMCV1 = '"$DDQJOBS_CODE"/configs/ddq/resume_mmcv1.py'


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (
            "p1-test.ddq-fcn-12e",
            f"bash tools/test.sh projects/configs/ddq_fcn/ddq_fcn_r50_1x.py {CHECKPOINT} 8 --eval bbox "
            f"--work-dir {WORK_DIR} --eval-options jsonfile_prefix={WORK_DIR}/results",
        ),
        (
            "p1-test.ddq-detr-4scale",
            f"bash tools/test.sh projects/configs/ddq_detr/{R50} {CHECKPOINT} 8 "
            f"--work-dir {WORK_DIR} --cfg-options test_evaluator.outfile_prefix={WORK_DIR}/results",
        ),
        (
            "p1-test.ddq-detr-swinl",
            f"bash tools/test.sh projects/configs/ddq_detr/{SWIN} {CHECKPOINT} 8 "
            f"--work-dir {WORK_DIR} --cfg-options test_evaluator.outfile_prefix={WORK_DIR}/results "
            "--cfg-options test_evaluator.format_only=False "
            "test_evaluator.ann_file=data/coco/annotations/instances_val2017.json "
            "test_dataloader.dataset.ann_file=annotations/instances_val2017.json "
            "test_dataloader.dataset.data_prefix.img=val2017/",
        ),
        (
            "p2-convert.ddq-detr-4scale",
            f'"$DDQJOBS_PYTHON" -m ddqjobs.detect.convert {CHECKPOINT} --out {WORK_DIR}/checkpoint.pth '
            f"--report {WORK_DIR}/convert.json --config configs/ddq/{R50}",
        ),
        (
            "p2-test.ddq-detr-swinl",
            f"bash tools/dist_test.sh configs/ddq/{SWIN} {CHECKPOINT} 8 "
            f"--work-dir {WORK_DIR} --cfg-options test_evaluator.outfile_prefix={WORK_DIR}/results",
        ),
        (
            "p2-align.ddq-detr-4scale",
            '"$DDQJOBS_PYTHON" -m ddqjobs.detect.align predictions '
            '"$DDQJOBS_INPUT_LEGACY" "$DDQJOBS_INPUT_NEW" '
            f'--out {WORK_DIR}/align.json --logs "$DDQJOBS_INPUT_LEGACY_LOG" "$DDQJOBS_INPUT_NEW_LOG"',
        ),
        (
            "p2-capture-legacy.ddq-rcnn-36e",
            '"$DDQJOBS_PYTHON" -m ddqjobs.detect.capture projects/configs/ddq_rcnn/ddq_rcnn_r50_3x.py '
            f"--weights {CHECKPOINT} --imports projects "
            "--images 0 1 2 --scale 333 200 --values 65536 --mode predict "
            f'--points "$DDQJOBS_CODE"/configs/ddq/points.json --side legacy --out {WORK_DIR}/dump.npz',
        ),
        (
            "p2-modules.ddq-detr-4scale",
            '"$DDQJOBS_PYTHON" -m ddqjobs.detect.align modules "$DDQJOBS_INPUT_LEGACY" "$DDQJOBS_INPUT_NEW" '
            f"--out {WORK_DIR}/align.json --tolerance 0.0001",
        ),
        (
            "p2-unittest",
            f'"$DDQJOBS_PYTHON" -m pytest -p no:cacheprovider --junitxml={WORK_DIR}/junit.xml '
            "tests/test_models/test_dense_heads/test_ddq_detr_head.py "
            "tests/test_models/test_detectors/test_ddq_detr.py "
            "tests/test_models/test_layers/test_transformer.py "
            "tests/test_models/test_losses/test_loss.py "
            "tests/test_models/test_task_modules/test_assigners/test_topk_hungarian_assigner.py",
        ),
        (
            "p2-test.ddq-fcn-12e",
            '"$DDQJOBS_PYTHON" -m torch.distributed.run --nproc_per_node=8 --master_port="$DDQJOBS_PORT" '
            "-m ddqjobs.detect.test configs/ddq/ddq-fcn_r50_8xb2-12e_coco.py "
            f"{CHECKPOINT} --work-dir {WORK_DIR} "
            f"--cfg-options test_evaluator.outfile_prefix={WORK_DIR}/results",
        ),
        (
            "p3-train.ddq-fcn-12e",
            f"bash tools/train.sh {RESUME_MMCV1} 8 {WORK_DIR}",
        ),
        (
            "p3-train.ddq-fcn-12e.ddq_fcn_4gpu",
            f"bash tools/train.sh {RESUME_MMCV1} 4 {WORK_DIR} --cfg-options 'optimizer=dict(lr=2.5e-05)'",
        ),
        (
            "p3-train.ddq-detr-4scale",
            f"bash tools/train.sh {RESUME} 8 {WORK_DIR}",
        ),
        (
            "p3-train-1gpu.ddq-detr-4scale.unseeded",
            f'"$DDQJOBS_PYTHON" tools/train.py {RESUME} --work-dir {WORK_DIR}',
        ),
        (
            "p3-train-1gpu.ddq-detr-4scale.seed7",
            f'"$DDQJOBS_PYTHON" tools/train.py {RESUME} --work-dir {WORK_DIR} '
            "--cfg-options randomness.seed=7",
        ),
        (
            "p4-train.ddq-detr-4scale",
            f"bash tools/dist_train.sh {RESUME} 8 --work-dir {WORK_DIR}",
        ),
        (
            "p4-train-1gpu.ddq-detr-4scale.seed7-det",
            f'"$DDQJOBS_PYTHON" tools/train.py {RESUME} --work-dir {WORK_DIR} '
            "--cfg-options randomness.seed=7 randomness.deterministic=True",
        ),
        (
            "p4-align-1gpu.ddq-detr-4scale.seed7",
            '"$DDQJOBS_PYTHON" -m ddqjobs.detect.align losses "$DDQJOBS_INPUT_LEGACY" "$DDQJOBS_INPUT_NEW" '
            f"--out {WORK_DIR}/align.json",
        ),
        (
            "p4-smoke.ddq-detr-swinl",
            f'"$DDQJOBS_PYTHON" tools/train.py configs/ddq/{SWIN} --work-dir {WORK_DIR} --cfg-options '
            "model.backbone.init_cfg=None default_hooks.checkpoint.interval=1 "
            "default_hooks.checkpoint.by_epoch=False train_dataloader.dataset.indices=4 "
            "train_cfg.max_epochs=1 train_cfg.val_begin=2",
        ),
    ],
)
def test_command(plan: Document[Experiment], runs: dict[str, Run], run: str, expected: str) -> None:
    assert words(plan, runs[run]) == expected


def test_every_training_goes_on_after_an_interruption(runs: dict[str, Run]) -> None:
    trainings = [run for run in runs.values() if run.kind is TaskKind.TRAIN]
    assert trainings
    for run in trainings:
        hooked = {"M": "{code}/configs/ddq/resume_mmcv1.py", "ours": "ddqjobs.detect.train"}
        assert hooked.get(run.code, "{code}/configs/ddq/resume.py") in run.command


def test_every_code_with_trainings_has_a_canary_that_ends_after_20_iterations(
    plan: Document[Experiment], runs: dict[str, Run]
) -> None:
    canaries = {run.code: run for run in canary.canaries(plan.value, list(runs.values()))}
    assert set(canaries) == {run.code for run in runs.values() if run.kind is TaskKind.TRAIN}
    assert words(plan, canaries["M"]) == (
        f'bash tools/train.sh "$DDQJOBS_CODE"/configs/ddq/canary_mmcv1.py 1 {WORK_DIR}'
    )
    for code in ("M", "L", "N"):
        assert canaries[code].products == (("checkpoint", "iter_20.pth"),)


def test_no_command_line_holds_a_known_mistake(plan: Document[Experiment], runs: dict[str, Run]) -> None:
    for run in runs.values():
        line = words(plan, run)
        assert "--auto-scale-lr" not in line  # these configurations raise an error
        assert not re.match(r"sh\b", line)  # ${@:4} needs bash
        assert ("--eval bbox" in line) == (run.code == "M" and run.kind is TaskKind.TEST)
        assert "configs/dino" not in line  # what mmdet's metafile says of 5scale and Swin-L
        assert "29500" not in line


def test_four_gpu_variant_states_its_rule(plan: Document[Experiment]) -> None:
    variant = plan.value.variants["ddq_fcn_4gpu"]
    scaled = float(re.fullmatch(r"dict\(lr=(.+)\)", str(variant.options["optimizer"]))[1])  # type: ignore[index]

    assert (variant.gpus, variant.models, variant.implementations) == (4, ["ddq-fcn-12e"], ["legacy"])
    assert scaled == 5e-5 * (4 * 2) / (8 * 2)
    assert "linear scaling" in variant.rule


def test_smoke_runs_see_no_gpu(runs: dict[str, Run]) -> None:
    for model in ("ddq-detr-5scale", "ddq-detr-swinl"):
        run = runs[f"p4-smoke.{model}"]
        assert dict(run.variables)["CUDA_VISIBLE_DEVICES"] == "-1"
        assert run.resources.gpus == 0


def test_every_model_has_a_released_checkpoint(runs: dict[str, Run]) -> None:
    for model in MODELS:
        legacy, new = (
            dict(runs[f"{task}.{model}"].inputs)["checkpoint"].path for task in ("p1-test", "p2-convert")
        )
        assert legacy == new
        assert legacy.startswith("~/data/pretrain_models/")


# ----------------------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_scripts(plan: Document[Experiment], runs: dict[str, Run], name: str) -> None:
    texts: dict[str, str] = {}
    for chosen in GOLDEN[name]:
        scripts = render(plan, [runs[run] for run in chosen], site(name))
        stem = chosen[0] if len(chosen) == 1 else f"{runs[chosen[0]].task}-array"
        texts[f"{stem}.sh"] = scripts.job
        if scripts.elements:
            texts[f"{stem}.elements.sh"] = scripts.elements

    golden.compare(name, texts)


def _write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def _run(argv: Sequence[str | Path]) -> str:
    """Both streams of a command; asserts that it ends with 0."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[:4000]
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", SITES)
def test_bash_reads_every_script(
    plan: Document[Experiment], runs: dict[str, Run], name: str, tmp_path: Path
) -> None:
    scripts = {f"{run.name}.sh": render(plan, [run], site(name)).job for run in runs.values()}

    for path in _write(tmp_path, scripts):
        assert _run(["bash", "-n", path]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", SITES)
def test_shellcheck_accepts_what_is_rendered(
    plan: Document[Experiment], runs: dict[str, Run], name: str, tmp_path: Path
) -> None:
    """The scripts of one run and of an array, which differ between runs only in their elements; and the
    elements of all runs, as those of one array."""
    single = render(plan, [runs["p1-test.ddq-detr-swinl"]], site(name))
    array = render(plan, list(runs.values()), site(name))
    texts = {"single.sh": single.job, "array.sh": array.job, "elements.sh": array.elements}

    assert shellcheck.problems(*_write(tmp_path, texts), options=("--shell=bash",)) == ""


def directives(script: str) -> list[str]:
    return [line.removeprefix("#DSUB ") for line in script.splitlines() if line.startswith("#DSUB ")]


def test_bscc_directives_are_those_of_the_known_script(
    plan: Document[Experiment], runs: dict[str, Run]
) -> None:
    """A whole node of BSCC, plus our absolute paths and a time limit, and nothing else."""
    run = runs["p3-train.ddq-detr-4scale"]
    lines = directives(render(plan, [run], site("bscc")).job)
    out = f"/data/results/ddq/submissions/{TOKEN}/out/%J.out"

    assert lines == [
        f"-n ddq.p3-train.ddq-detr-4scale.{TOKEN}",
        "-A root.bingxing2.alice",
        "-q root.default",
        "-l wuhanG5500",
        "--job_type cosched",
        "-R 'cpu=48;gpu=8;mem=300000'",
        "-N 1",
        f"-T {8 * 24 * 3600}",
        f"-e {out}",
        f"-o {out}",
    ]


@pytest.mark.parametrize(
    ("run", "resources"),
    [
        ("p3-train.ddq-fcn-12e.ddq_fcn_4gpu", "cpu=24;gpu=4;mem=150000"),
        ("p4-train-1gpu.ddq-detr-4scale.seed7", "cpu=6;gpu=1;mem=37500"),
        ("p2-convert.ddq-detr-4scale", "cpu=6;mem=37500"),
        ("p4-smoke.ddq-detr-swinl", "cpu=16;mem=100000"),
    ],
)
def test_bscc_resources(plan: Document[Experiment], runs: dict[str, Run], run: str, resources: str) -> None:
    assert f"-R '{resources}'" in directives(render(plan, [runs[run]], site("bscc")).job)


def test_each_directive_is_explained(plan: Document[Experiment], runs: dict[str, Run]) -> None:
    """docs/reference/donau.md has a line for every directive, in the order of the script."""
    text = (ROOT / "docs/reference/donau.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `#DSUB (\S+)", text, re.MULTILINE)

    for run in runs.values():
        lines = directives(render(plan, [run], site("bscc")).job)
        assert [line.split()[0] for line in lines] == explained


def statements(text: str) -> dict[str, str]:
    """Option -> how well it is known: the first word of the last cell of the first row that names it."""
    options: dict[str, str] = {}
    for row in re.findall(r"^\|(.*)\|$", text, re.MULTILINE):
        cells = [cell.strip() for cell in row.split("|")]
        for quoted in re.findall(r"`([^`]*)`", " ".join(cells[:-1])):
            for option in re.findall(r"(?<!\S)--?[a-z][\w-]*|(?<!\S)-[A-Z](?!\S)", quoted):
                options.setdefault(option, cells[-1].partition(" ")[0].strip(";*"))
    return options


def test_each_directive_of_the_golden_files_stands_on_known_inferred_or_assumed_ground() -> None:
    grounds = statements((ROOT / "docs/reference/donau.md").read_text(encoding="utf-8"))
    for path in sorted((ROOT / "tests/golden/bscc").iterdir()):
        for line in directives(path.read_text()):
            assert grounds.get(line.split()[0]) in ("known", "inferred", "assumed"), f"{path.name}: {line}"


@pytest.mark.parametrize("name", ["bscc", "donau"])
def test_each_option_of_both_generations_is_explained(name: str) -> None:
    grounds = statements((ROOT / "docs/reference/donau.md").read_text(encoding="utf-8"))
    dialect = of(site(name)).dialect
    assert dialect is not None
    used = [getattr(dialect.options, key) for key in dialect.options.__struct_fields__]
    used += [*dialect.submit, *dialect.dependency[:1], *dialect.avoid[:1]]
    options = [option for option in used if option.startswith("-")]
    assert len(options) > 10
    unexplained = {
        o: grounds.get(o) for o in options if grounds.get(o) not in ("known", "inferred", "assumed")
    }
    assert unexplained == {}


def test_environments_of_the_plan_are_entered_at_bscc(
    plan: Document[Experiment], runs: dict[str, Run]
) -> None:
    """The trees' scripts call `python`: it must be the environment's."""
    for name, folder in (("M", "py38"), ("L", "detr_py38"), ("N", "detr_py38")):
        run = next(run for run in runs.values() if run.code == name)
        side = "new" if name == "N" else "legacy"
        assert f'. "$HOME"/ddq/{side}/{folder}/bin/activate' in render(plan, [run], site("bscc")).job
