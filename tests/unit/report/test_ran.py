"""The report names what results ran with, and says when the two sides ran on different machines."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from ddqjobs.detect.checks import resolved
from ddqjobs.environments.on_site import Environments
from ddqjobs.report.cache import ReportFiles
from ddqjobs.report.formats import render
from ddqjobs.report.verdict import Outcome
from ddqjobs.spec.model import Input, Ran, TaskKind
from ddqjobs.spec.shipped import Files
from ddqjobs.spec.site import Site
from tests.unit.report.test_document import Desk, cell, run

VERSIONS = {"torch": "2.13.0+cpu", "mmdet": "3.3.0", "pycocotools": "2.0.11"}
XEON = Ran(
    environment="new",
    locked=True,
    python="3.11.9",
    packages=VERSIONS,
    processor="Xeon",
    instructions=("avx2", "avx512f"),
)
EPYC = Ran(environment="new", locked=True, python="3.11.9", packages=VERSIONS, processor="EPYC")
H200 = Ran(environment="own", python="3.8.18", processor="Xeon", gpus=("H200", "H200"))
V100 = Ran(environment="own", python="3.8.18", processor="Xeon", gpus=("V100",))


def inputs(*runs: str) -> tuple[tuple[str, Input], ...]:
    """Return inputs from these runs."""
    return tuple((f"i{n}", Input(artifact="a", run=name)) for n, name in enumerate(runs))


def two_phases(one: Ran | None, other: Ran | None, ap: float = 0.5) -> Desk:
    """Return phase 2's result, made by ``other``, beside phase 1's."""
    desk = Desk({"detr": 50.0})
    desk.done(run("1", "detr"), 0.5, ran=one)
    desk.done(run("2", "detr"), ap, ran=other)
    return desk


@pytest.mark.parametrize(
    ("one", "other", "ap", "word"),
    [
        (XEON, XEON, 0.5, "equal (n=1)"),
        (XEON, None, 0.5, "equal (n=1)"),
        (XEON, EPYC, 0.5, "equal (n=1), different processors"),
        (XEON, EPYC, 0.4, "not equal (n=1), different processors"),
        (H200, V100, 0.5, "equal (n=1), different GPUs"),
        (XEON, H200, 0.4, "not equal (n=1), different GPUs"),
    ],
)
def test_verdicts_say_when_the_machines_differ(
    one: Ran | None, other: Ran | None, ap: float, word: str
) -> None:
    assert cell(two_phases(one, other, ap).report(), "2")[2] == word


def test_a_training_that_went_on_on_another_machine_names_both() -> None:
    moved = msgspec.structs.replace(XEON, earlier=(Ran(processor="EPYC", packages={"torch": "2.13.0+cpu"}),))
    report = two_phases(XEON, moved).report()
    assert cell(report, "2")[2] == "equal (n=1), different processors"
    assert "went on from an attempt with torch 2.13.0+cpu, EPYC: p2-test.detr" in report.footnotes


def test_the_rule_names_both_machines() -> None:
    phase_cell = two_phases(XEON, EPYC).report().models[0].cells[1]
    assert phase_cell is not None
    assert phase_cell.judgement.rule.endswith(
        "; the two sides ran on different processors: EPYC against Xeon (avx512f)"
    )


def test_attempts_with_other_configurations_leave_the_verdict_unknown() -> None:
    mixed = msgspec.structs.replace(XEON, differs=("optim_wrapper.optimizer.lr: 0.1 against 0.2",))
    report = two_phases(mixed, XEON).report()
    phase_cell = report.models[0].cells[1]  # phase 2 is compared with the mixed phase 1
    assert phase_cell is not None
    assert phase_cell.judgement.outcome is Outcome.UNKNOWN
    assert phase_cell.judgement.word == "unknown: configurations differ"
    where = "p1-test.detr: optim_wrapper.optimizer.lr: 0.1 against 0.2"
    assert phase_cell.judgement.rule.endswith(where)
    assert any(note.startswith("different configurations under the digest") for note in report.footnotes)


def test_a_run_that_loaded_another_copy_than_its_tree_s_leaves_the_verdict_unknown() -> None:
    report = two_phases(XEON, msgspec.structs.replace(XEON, hidden=("mmdet",))).report()
    phase_cell = report.models[0].cells[1]
    assert phase_cell is not None
    assert phase_cell.judgement.word == "unknown: another code ran"
    finding = "the installed mmdet ran, not the code tree's own (its PYTHONPATH lacks the tree)"
    assert phase_cell.judgement.rule.endswith(f"p2-test.detr: {finding}")
    assert f"{finding}: p2-test.detr" in report.footnotes


def test_a_run_that_loaded_a_copy_of_another_place_leaves_the_verdict_unknown() -> None:
    report = two_phases(XEON, msgspec.structs.replace(XEON, instead=("/usr/lib/torch/a.py",))).report()
    phase_cell = report.models[0].cells[1]
    assert phase_cell is not None
    assert phase_cell.judgement.word == "unknown: another code ran"
    assert phase_cell.judgement.rule.endswith(
        "p2-test.detr: /usr/lib/torch/a.py ran, not the environment's own"
    )


def test_a_run_that_loaded_a_changed_file_of_its_environment_leaves_the_verdict_unknown() -> None:
    report = two_phases(XEON, msgspec.structs.replace(XEON, changed=("/env/lib/a.py",))).report()
    phase_cell = report.models[0].cells[1]
    assert phase_cell is not None
    assert phase_cell.judgement.word == "unknown: the environment was changed"
    finding = "its environment was changed since it was built: /env/lib/a.py"
    assert phase_cell.judgement.rule.endswith(f"p2-test.detr: {finding}")
    assert f"{finding}: p2-test.detr" in report.footnotes


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"test": "b"}, "unknown: other annotations"),
        ({"test": "a", "test images": "all"}, "equal (n=1)"),  # the other did not record it
        ({"test": "a"}, "equal (n=1)"),
        ({"train": "b"}, "equal (n=1)"),
        ({}, "equal (n=1)"),
    ],
)
def test_results_on_other_annotations_are_not_compared(other: dict[str, str], word: str) -> None:
    one, two = (msgspec.structs.replace(XEON, annotations=a) for a in ({"test": "a"}, other))
    phase_cell = two_phases(one, two).report().models[0].cells[1]
    assert phase_cell is not None
    assert phase_cell.judgement.word == word
    if "unknown" in word:
        reason = "the annotations (test) of p2-test.detr and of p1-test.detr are different files (b and a)"
        assert phase_cell.judgement.rule.endswith(reason)


@pytest.mark.parametrize("digests", [("a", "b", "c"), ("a", "b", "a")])
def test_seeds_that_give_one_training_are_no_samples(digests: tuple[str, ...]) -> None:
    desk = Desk({"detr": 50.0})
    for seed, digest in zip((1, 2001, 4001), digests, strict=True):
        seeded_run = run("3", "detr", seed=seed, name=f"p3-test.s{seed}")
        desk.done(seeded_run, 0.5 + seed / 1e7, sha256={"predictions": digest})
    rule = desk.report().models[0].cells[0].judgement.rule  # type: ignore[union-attr]
    same = "no equivalence test: the seed does not reach p3-test.s1 and p3-test.s4001, with one predictions"
    assert (same in rule) == (digests[0] == digests[2])
    assert ("TOST" in rule) == (digests[0] != digests[2])


def after(
    before: dict[str, str], own: dict[str, str], *, kind: TaskKind = TaskKind.TRAIN, **grids: str
) -> str:
    """Return the verdict of phase 4 against phase 3: runs of a kind, each after a training of its own.
    ``before`` and ``own`` have ``SPLIT PHASE`` -> annotations; ``grids`` a grid's value for each phase."""
    desk = Desk({"detr": 50.0})
    for phase in ("3", "4"):
        reads = [
            msgspec.structs.replace(XEON, annotations={k[:-2]: v for k, v in of.items() if k.endswith(phase)})
            for of in (before, own)
        ]
        value = grids.get(f"p{phase}", "")
        word = f"train_dataloader.dataset.ann_file={value}"
        grid = {"options": (word,), "grid": (("ann_file", value),)} if value else {}
        first = run("", "detr", TaskKind.TRAIN, name=f"before.{phase}", **grid)
        desk.done(first, 0.5, ran=reads[0])
        desk.done(run(phase, "detr", kind, inputs=inputs(first.name)), 0.5, ran=reads[1])
    return cell(desk.report(), "4")[2]


def test_annotations_are_compared_at_the_same_place_of_a_chain() -> None:
    pretrained = {"train 3": "objects", "train 4": "objects"}
    assert after(pretrained, {"train 3": "coco", "train 4": "coco"}) == "within tolerance (n=1)"
    other = {"train 3": "objects", "train 4": "others"}
    assert after(other, {"train 3": "coco", "train 4": "coco"}) == "unknown: other annotations"
    assert after({}, {"val 3": "a", "val 4": "b"}) == "unknown: other annotations"  # its AP is of these


def test_neither_a_training_s_validation_nor_what_a_grid_varies_keeps_tests_from_a_verdict() -> None:
    tested = {"test 3": "a", "test 4": "a"}
    validated = {"train 3": "a", "train 4": "a", "val 3": "b", "val 4": "c"}
    assert after(validated, tested, kind=TaskKind.TEST) == "within tolerance (n=1)"
    trained = {"train 3": "a", "train 4": "b"}
    assert after(trained, tested, kind=TaskKind.TEST) == "unknown: other annotations"
    assert after(trained, tested, kind=TaskKind.TEST, p3="a", p4="b") == "within tolerance (n=1)"
    assert after(trained, tested, kind=TaskKind.TEST, p3="a", p4="a") == "unknown: other annotations"


def test_a_pretraining_that_all_seeds_share_says_nothing_of_them() -> None:
    desk = Desk({"detr": 50.0})
    shared = run("", "detr", TaskKind.TRAIN, name="pretraining")
    desk.done(shared, 0.5, sha256={"curve": "a"})
    for seed in (1, 2001, 4001):
        seeded_run = run(
            "3", "detr", TaskKind.TRAIN, seed=seed, name=f"p3.s{seed}", inputs=inputs(shared.name)
        )
        desk.done(seeded_run, 0.5 + seed / 1e7, sha256={"curve": str(seed)})
    phase_cell = desk.report().models[0].cells[0]
    assert phase_cell is not None
    assert "TOST" in phase_cell.judgement.rule


def test_every_other_configuration_of_a_digest_is_compared(tmp_path: Path) -> None:
    plainly = {"lr": 1, "api_key": "recorded-before-marks"}
    marked = resolved.plain(plainly, {})
    desks = {}
    for name, cfg in (("raw", plainly), ("one", marked), ("two", {**marked, "lr": 3})):
        attempt = tmp_path / "e" / "runs" / name / "attempts" / "1"
        attempt.mkdir(parents=True)
        (attempt / resolved.NAME).write_text(json.dumps(cfg))
        record = resolved.keep(tmp_path / resolved.ALL, "d1", attempt / resolved.NAME)
        desk = Desk({"detr": 50.0})
        desk.done(run("1", name), 0.5, ran=msgspec.structs.replace(XEON, resolved=record))
        desks[name] = desk.products[f"p1-test.{name}"]
    files = ReportFiles(tmp_path / "e", Environments(Files(tmp_path), Site(name="s", scheduler="local")))
    places = {name: product.ran.differs for name, product in files.compared(desks).items() if product.ran}
    assert places == {
        "raw": ("lr: 1 against 3",),
        "one": ("lr: 1 against 3",),
        "two": ("lr: 3 against 1",),
    }


def test_a_run_of_another_experiment_that_had_another_configuration_counts_too(tmp_path: Path) -> None:
    records = {}
    for name, cfg in (("one", {"lr": 0.1}), ("two", {"lr": 0.2})):
        attempt = tmp_path / name / "runs" / "r" / "attempts" / "1"
        attempt.mkdir(parents=True)
        (attempt / resolved.NAME).write_text(json.dumps(cfg))
        records[name] = resolved.keep(tmp_path / resolved.ALL, "d1", attempt / resolved.NAME)
    desk = two_phases(msgspec.structs.replace(XEON, resolved=records["one"]), XEON)
    environments = Environments(Files(tmp_path), Site(name="s", scheduler="local"))
    files = ReportFiles(tmp_path / "one", environments)
    assert files.compared(desk.products) == desk.products  # no product is of the other one any more
    product = {"digest": "d1", "ran": {"resolved": records["two"]}}
    (tmp_path / "two/runs/r/product.json").write_text(json.dumps(product))
    assert len(files.configurations(desk.products)) == 2  # an archive has these, and not the other's product
    products = files.compared(desk.products)
    (tmp_path / "two/runs/r/product.json").unlink()
    assert ReportFiles(tmp_path / "one", environments, archived=True).compared(desk.products) == products
    ran = products["p1-test.detr"].ran
    assert ran is not None
    assert ran.differs == ("lr: 0.1 against 0.2",)
    assert products["p2-test.detr"] == desk.products["p2-test.detr"]  # of which it was not recorded
    desk.products = products
    assert cell(desk.report(), "1")[2] == "unknown: configurations differ"
    assert cell(desk.report(), "2")[2] == "unknown: configurations differ"


def test_an_alignment_of_such_runs_is_unknown(tmp_path: Path) -> None:
    desk = two_phases(msgspec.structs.replace(XEON, differs=("lr: 0.1 against 0.2",)), XEON)
    read = inputs("p1-test.detr", "p2-test.detr")
    desk.done(run("2", "detr", TaskKind.ALIGN, tolerances=(("box", 0.0),), inputs=read), {"box": 0.0})
    assert desk.report().alignment[0].judgement.word == "unknown: configurations differ"


def test_the_machine_of_the_training_counts_too() -> None:
    desk = Desk({"detr": 50.0})
    for phase, ran in (("3", XEON), ("4", EPYC)):
        training = run(phase, "detr", TaskKind.TRAIN)
        desk.done(training, 0.5, ran=ran)
        desk.done(run(phase, "detr", inputs=inputs(training.name)), 0.5, ran=XEON)
    assert cell(desk.report(), "4")[2] == "within tolerance (n=1), different processors"


def test_it_names_the_versions_and_what_was_not_locked() -> None:
    report = two_phases(XEON, H200).report()
    assert [note for note in report.footnotes if note.startswith("ran with")] == [
        "ran with Python 3.11.9, torch 2.13.0+cpu, mmdet 3.3.0; Xeon (avx512f): p1-test.detr",
        "ran with not locked, Python 3.8.18; Xeon, 2 x H200: p2-test.detr",
    ]
    rows = {row["run"]: row for row in json.loads(render(report, "json"))["runs"]}
    assert rows["p2-test.detr"]["ran"] == "not locked, Python 3.8.18"
    assert rows["p2-test.detr"]["machine"] == "Xeon, 2 x H200"
    assert "torch 2.13.0+cpu" in render(report, "markdown")


def test_an_alignment_says_it_of_its_inputs() -> None:
    desk = two_phases(XEON, EPYC)
    read = inputs("p1-test.detr", "p2-test.detr")
    aligned = run("2", "detr", TaskKind.ALIGN, tolerances=(("box", 0.0),), inputs=read)
    desk.done(aligned, {"box": 0.0})
    assert desk.report().alignment[0].judgement.word.endswith(", different processors")
