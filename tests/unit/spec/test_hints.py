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
