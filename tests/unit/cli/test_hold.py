"""Holding and releasing runs from the command line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Place, opened
from tests.support.trivial import until


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """One CPU, taken by the run ``wait``; ``first`` waits behind it."""
    with opened(tmp_path / "project") as project:
        site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable}
        project.write("templates/local/site.yaml", {**site, "local": {"cpus": 1}})
        project.invoke("submit", "tiny", "wait")
        until(lambda: project.attempts("wait"))
        project.invoke("submit", "tiny", "first")
        yield project


def state(place: Place, run: str) -> str:
    job_state: str = place.invoke("status", "tiny", run, "--json").json["runs"][0]["state"]
    return job_state


def test_what_is_queued_is_held_and_what_runs_runs_on(place: Place) -> None:
    ran = place.invoke("hold", "--json")
    assert ran.code == 0
    assert ran.json == {
        "version": 1, "kind": "hold", "held": ["first"],
        "left": {"wait": place.invoke("plan", "wait", "--json").json["runs"][0]["reason"]},
    }  # fmt: skip
    assert ran.json["left"]["wait"].startswith("running on ")
    (place.root / "go").touch()
    until(lambda: place.states()["wait"] == "done")
    assert state(place, "first") == "held"
    assert re.search(r"^first +held ", place.invoke("status", "tiny", "--runs").out, re.MULTILINE)
    assert "\n1 held in the queue: ddqjobs release tiny first\n" in place.invoke("status", "tiny").out
    assert "`ddqjobs release` lets it start" in place.invoke("plan", "--state", "held").out
    assert place.attempts("first") == 0
    assert place.invoke("release", "--json").json == {
        "version": 1, "kind": "release", "released": ["first"], "left": {},
    }  # fmt: skip
    until(lambda: place.states()["first"] == "done")


def test_in_words(place: Place) -> None:
    ran = place.invoke("hold", "tiny")
    assert ran.out.splitlines()[:2] == ["held 1 run", "not held (1):"]
    assert ran.out.splitlines()[2].split()[:3] == ["wait", "running", "on"]
    assert place.invoke("hold", "tiny", "first").out == "held 1 run\n"  # once more changes nothing
    assert place.invoke("release", "first").out == "released 1 run\n"
    assert place.invoke("release", "first").out == "released no run\n"
    assert place.invoke("hold", "second.m1").out == "held no run\n"  # it was never submitted


def test_a_name_that_matches_nothing_is_refused(place: Place) -> None:
    for command in ("hold", "release"):
        ran = place.invoke(command, "tiny", "frist")
        assert (ran.code, ran.out) == (2, "")
        assert "no run matches 'frist'; did you mean 'first'?" in ran.err
