"""Hints on what is allowed and surely not meant, and the files that an error of an heir names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, opened

PAPER = """
name: paper
implementations: {one: the one}
weights: {released: {path: ~/weights/a.pth, url: "https://example.org/a.pth"}}
codes: {c: {seed_option: seed, commands: {train: [t, "{seed}"], test: [t, "{checkpoint}"]}}}
models:
  m:
    implementations:
      one: {code: c, checkpoint: ~/weights/a.pth}
phases: {"1": {title: one}}
tasks:
  test: {kind: test, implementation: one, phase: "1", inputs: {checkpoint: released}}
  train: {kind: train, implementation: one, seeds: [0, 1000, 2000]}
"""
HEIR = """
base: paper
name: heir
models: {m: null, n: {implementations: {one: {code: c}}}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        project.text("experiments/paper.yaml", PAPER)
        yield project


def hints(place: Place) -> list[str]:
    messages: list[str] = place.invoke("plan", "paper", "--json").json["hints"]
    assert [f"hint: {hint}" in place.invoke("plan", "paper").out for hint in messages] == [True] * len(
        messages
    )
    return [hint.partition("experiments/")[2] for hint in messages]


def test_a_sound_experiment_gets_no_hint(place: Place) -> None:
    assert hints(place) == []


def test_seeds_and_weights_that_were_surely_not_meant(place: Place) -> None:
    changed = PAPER.replace("[0, 1000, 2000]", "[1, 1500, 0]").replace(
        "c, checkpoint: ~/weights/a", "c, checkpoint: ~/b"
    )
    place.text("experiments/paper.yaml", changed)
    seeds, weights = hints(place)
    assert seeds.startswith(
        "paper.yaml:13: seeds 0 and 1 are closer than 1,000, so verdicts count only the first"
    )
    assert weights.startswith(
        "paper.yaml:9: the checkpoint is not the path of weights.released, ~/weights/a.pth"
    )
    assert "paper.yaml:4), which nothing in this file reads" in weights
    more = '{more: {path: ~/c.pth, url: "https://example.org/c.pth"}, released:'
    place.text("experiments/paper.yaml", changed.replace("{released:", more))
    assert len(hints(place)) == 1  # which of the two was meant is not known


SEEDS = "seeds: [0, 1000, 2000]"


VARIANTS = "variants: {slow: {options: {lr: 1}}, fast: {options: {lr: 2}}}\n"


@pytest.mark.parametrize(
    ("grid", "more", "hinted"),
    [
        ("grid: {lr: [1, 2]}", "", True),
        ("grid: {lr: [1, 2]}, " + SEEDS, "", False),
        ("grid: {lr: [1]}", "", False),  # nothing to compare with
        ("grid: {lr: [1, 2]}, variants: [seeded]", "variants: {seeded: {seed: 7}}\n", False),
        ("grid: {lr: [1, 2]}, options: {seed: 3}", "", False),
        ("variants: [slow, fast]", VARIANTS + "baseline: slow\n", True),
        ("variants: [slow, fast]", VARIANTS, False),  # not compared
    ],
)
def test_variants_that_are_compared_and_declare_no_seed_get_a_hint(
    grid: str, more: str, hinted: bool, place: Place
) -> None:
    options = PAPER.replace('"{seed}"', '"{options}"')
    place.text("experiments/paper.yaml", options.replace(SEEDS, grid) + more)
    hint = (
        "paper.yaml:13: the variants of task 'train' are compared, and without seeds each training draws "
        "another, so that seeds are compared as well; add for example `seeds: [0, 1000, 2000]`"
    )
    assert hints(place) == [hint] * hinted


@pytest.mark.parametrize(("variants", "hinted"), [("fast", True), ("slow, fast", False)])
def test_a_baseline_that_no_run_has_gets_a_hint(variants: str, hinted: bool, place: Place) -> None:
    options = PAPER.replace('"{seed}"', '"{options}"')
    experiment = options.replace(SEEDS, f"variants: [{variants}], {SEEDS}")
    place.text("experiments/paper.yaml", f"{experiment}baseline: slow\n{VARIANTS}")
    hint = (
        "paper.yaml:14: no run has the variant 'slow', so nothing is compared with it; add it to the "
        "`variants` of a task"
    )
    assert hints(place) == [hint] * hinted


@pytest.mark.parametrize(
    ("seeds_of_3", "seeds_of_4", "hint"),
    [
        ("[0, 1000, 2000]", "[0, 1000, 2000]", ""),
        ("[0, 1000]", "[0]", ""),  # no test is meant
        ("[0, 1000, 2000]", "[0, 1000]", "17: task 'again' is compared with task 'train' and has 2 seeds"),
        ("null", "[0, 1000, 2000]", "16: task 'train' is compared with task 'again' and has 1 seed"),
    ],
)
def test_a_side_with_too_few_seeds_for_the_test_of_equivalence_gets_a_hint(
    seeds_of_3: str, seeds_of_4: str, hint: str, place: Place
) -> None:
    phases = """phases:
  "1": {title: one}
  "3": {title: three}
  "4": {title: four, against: "3"}
"""
    trained = f"""  train: {{kind: train, implementation: one, phase: "3", seeds: {seeds_of_3}}}
  again: {{kind: train, implementation: one, phase: "4", seeds: {seeds_of_4}}}
"""
    text = PAPER.replace('phases: {"1": {title: one}}\n', phases)
    place.text("experiments/paper.yaml", text[: text.index("  train:")] + trained)
    rest = " where that has 3; a test of equivalence needs 3 or more of each"
    assert hints(place) == ([f"paper.yaml:{hint}{rest}"] if hint else [])


OWN = "configs/faster-rcnn-mini/faster-rcnn_r18_shapes.py"
NANO = "configs/nano/ddq-detr_r18_shapes.py"
SECOND = f"""
base: nano
name: paper
models:
  ddq-detr-r18: null
  own:
    implementations:
      legacy: {{code: mmdet-3.2, config: {OWN}}}
      new: {{code: mmdet-3.3, config: {OWN}}}
"""
TWO = SECOND.replace("ddq-detr-r18: null", "ddq-detr-r18: {title: kept}")
OWN_RELEASE = f"release: {{config: {OWN}}}"
OWN_INITIAL = f"initial: {{config: {OWN}}}"
RELEASES = "release: {once: false, code: null, config: null, implementation: legacy}"
INITIALS = "initial: {once: false, code: null, config: null, implementation: new}"
PER_MODEL = f"tasks:\n  {RELEASES}\n  {INITIALS}\n"


@pytest.mark.parametrize(
    ("text", "lines", "remedies"),
    [
        (SECOND, [6, 6], [OWN_RELEASE, OWN_INITIAL]),
        (f"{SECOND}tasks:\n  {OWN_RELEASE}\n", [6], [OWN_INITIAL]),
        (f"{SECOND}tasks:\n  {OWN_RELEASE}\n  {OWN_INITIAL}\n", [], []),
        (TWO, [6, 6], [RELEASES, INITIALS]),
        (SECOND + SECOND[SECOND.index("  own:") :].replace("own:", "other:"), [6, 6], [RELEASES, INITIALS]),
        (TWO + PER_MODEL, [], []),
        (
            SECOND + PER_MODEL.replace("config: null, ", ""),
            [11, 12],
            ["release: {config: null}", "initial: {config: null}"],
        ),
        (SECOND + f"tasks:\n  release: {{config: {NANO}}}\n  {OWN_INITIAL}\n", [11], [OWN_RELEASE]),
        (TWO.replace(OWN, NANO), [], []),  # one detector with two figures to compare with
    ],
)
def test_weights_of_a_configuration_that_is_not_the_model_s_get_a_hint(
    text: str, lines: list[int], remedies: list[str], place: Place
) -> None:
    """Those of the two tasks of a miniature that name their own, and are forgotten."""
    place.text("experiments/paper.yaml", text)
    for hint, line, remedy in zip(hints(place), lines, remedies, strict=True):
        task = remedy.partition(":")[0]
        assert hint.startswith(f"paper.yaml:{line}: ")
        assert f" has {OWN} and loads the weights of task '{task}', whose configuration is {NANO}" in hint
        assert hint.endswith(f"; write `{remedy}` under `tasks`")


def test_weights_that_a_training_s_options_load_are_shared_on_purpose(place: Place) -> None:
    shared = """
  pretrain: {kind: train, once: true, code: c, config: configs/pretraining.py, seeds: [0]}
  tuned:
    kind: train
    implementation: one
    options: {load_from: "{input.a}"}
    inputs: {a: pretrain.checkpoint}
  test-tuned: {kind: test, implementation: one, inputs: {checkpoint: tuned.checkpoint}}
"""
    text = PAPER.replace("{code: c,", "{code: c, config: configs/own.py,").replace(', "{seed}"', "")
    text = text.replace("train: [t]", 'train: [t, "{seed}", "{options}"]')
    place.text("experiments/paper.yaml", text + shared)
    assert [hint for hint in hints(place) if "weights" in hint] == []


@pytest.mark.parametrize(
    ("limit", "hinted"),
    [
        ("3d", []),
        (
            "2d",
            [
                "paper.yaml:14: 3d is longer than `limits.time` of site local, so jobs get 2d; a training "
                "that takes longer goes on from its last checkpoint in further jobs",
            ],
        ),
        (
            "1h",
            [
                "paper.yaml:11: 2h is longer than `limits.time` of site local, so jobs get 1h; a run that "
                "takes longer times out",
                "paper.yaml:14: 3d is longer than `limits.time` of site local, so jobs get 1h; a training "
                "that takes longer goes on from its last checkpoint in further jobs",
            ],
        ),
    ],
)
def test_a_time_that_the_site_cuts_gets_a_hint(limit: str, hinted: list[str], place: Place) -> None:
    text = PAPER.replace("tasks:", "resources: {time: 2h}\ntasks:")
    text = text.replace("seeds:", "resources: {time: 3d}, seeds:")
    place.text("experiments/paper.yaml", text)
    place.local_site(limits={"time": limit})
    assert sorted(hints(place)) == sorted(hinted)


def test_an_error_of_an_heir_names_its_file_and_that_of_its_base(place: Place) -> None:
    place.text("experiments/heir.yaml", HEIR)
    refused = place.call("plan", "heir")
    assert refused.code == 2
    assert refused.err == (
        "error: experiments/heir.yaml:4: model 'n' declares no checkpoint for implementation 'one', and task "
        "'test' reads it as `released` (experiments/paper.yaml:12)\n"
    )
    place.text("experiments/heir.yaml", 'base: paper\nname: heir\nphases: {"1": null}\n')
    assert place.call("plan", "heir").err.startswith("error: experiments/paper.yaml:12: unknown phase '1'")
    assert "(experiments/heir.yaml inherits this)" in place.call("plan", "heir").err


ONCE = "release: {code: null, config: null, implementation: legacy}"
CODE = "release: {once: false, config: null, implementation: legacy}"
IMPLEMENTATION = "release: {once: false, code: null, config: null}"
NO_MODEL = (
    "a task with `once: true` belongs to no model: leave out models and implementation, or write "
    "`once: false`, and it runs for each model"
)
NO_CODE = "Remove `code`, or write `code: null` where it is inherited ("
OLD = "models: {faster-rcnn-r50: {implementations: {legacy: null, old: {code: mmdet-2, config: a.py}}}}"
TREE = "set PYTHONPATH in `codes.mmdet-2.variables` ("


@pytest.mark.parametrize(
    ("base", "text", "first", "errors"),
    [
        ("nano", f"tasks:\n  {ONCE}", f"4: {NO_MODEL}\n", 1),
        ("nano", f"tasks:\n  {CODE}", NO_CODE, 1),
        ("nano", f"tasks:\n  {IMPLEMENTATION}", "4: name an implementation; declared: legacy, new", 4),
        ("faster-rcnn", f"\n{OLD}", "4: unknown implementation 'old'; declared: legacy, new", 3),
        ("faster-rcnn", "codes:\n  mmdet-2: {path: ~/mine}", TREE, 1),
        (
            "nano",
            "tasks:\n  p3-train: {grid: {seed: [0, 1]}}",
            "4: list seeds under `seeds`, not in a grid",
            1,
        ),
    ],
)
def test_a_key_that_an_heir_forgets_is_told_at_its_own_line_with_what_to_write(
    base: str, text: str, first: str, errors: int, place: Place
) -> None:
    place.text("experiments/mine.yaml", f"base: {base}\nname: mine\n{text}\n")
    refused = place.call("plan", "mine")
    told = refused.err.splitlines(keepends=True)
    assert (refused.code, len(told)) == (2, errors)
    assert told[0].startswith("error: experiments/mine.yaml:4: ")
    assert first in told[0]


def test_seeds_that_a_comparison_of_the_base_cannot_pair_are_told_at_the_heir_s_line(place: Place) -> None:
    text = "base: faster-rcnn\nname: mine\ntasks:\n  p4-train:\n    seeds: [3000, 4000]\n"
    place.text("experiments/mine.yaml", text)
    refused = place.call("plan", "mine")
    assert refused.code == 2
    start, _, rest = refused.err.partition(" (")
    assert start == "error: experiments/mine.yaml:5: task 'p4-align'"
    declared, _, rest = rest.partition(") ")
    assert declared.rpartition("/")[2].startswith("faster-rcnn.yaml:")
    assert rest.startswith(
        "pairs runs of 'p4-train' with runs of 'p3-train', and of the 2 runs of 'p4-train' ("
    )
    assert rest.endswith(
        "none has seed 0; give both the same variants and seeds, or remove the task with `p4-align: null`\n"
    )


def test_a_setup_line_that_activates_conda_while_a_code_names_an_environment(place: Place) -> None:
    site = """name: local
scheduler: local
setup:
  - echo conda activate det
  - source ~/conda/etc/profile.d/conda.sh && conda activate det
  - source ~/venv/bin/activate
  - . ./activate.sh
  - source activate det
  - micromamba activate det
  - source ~/bin/activate-proxy
"""
    place.text("templates/local/site.yaml", site)
    assert hints(place) == []  # no code names an environment
    experiment = place.root / "experiments/paper.yaml"
    experiment.write_text(experiment.read_text().replace("seed_option", "environment: mini-new, seed_option"))
    messages = place.invoke("plan", "paper", "--json").json["hints"]
    why = (
        "a setup line that activates conda or a virtual environment does not choose the Python of runs in "
        "environment mini-new"
    )
    remedy = "name the script that enters yours under `activate:`"
    places = [f"templates/local/site.yaml:{line}" for line in (5, 6, 8, 9)]
    assert [message.removeprefix(f"{place.root}/") for message in messages] == [
        f"{place_}: {why}; {remedy}" for place_ in places
    ]
    assert f"hint: {messages[0]}\n" in place.invoke("plan", "paper").out
    lines = place.invoke("doctor", "paper", "--no-job", "--json").json["lines"]
    of_site = [(line["level"], line["found"]) for line in lines if line["what"] == "site file"]
    assert of_site == [("warning", message.partition("; ")[0]) for message in messages]
    place.text("templates/local/site.yaml", site + "activate: {mini-new: ~/venv/bin/activate}\n")
    entered = place.invoke("plan", "paper", "--json").json["hints"]
    assert [message.partition("; ")[2] for message in entered] == ["remove the line"] * 4
