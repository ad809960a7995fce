"""The Python API: what it names is there, its examples run, and names and objects are accepted alike."""

from __future__ import annotations

import doctest
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import ddqjobs
import ddqjobs.project
import ddqjobs.project.looking
import ddqjobs.project.opened
from ddqjobs.base import html, secrets
from ddqjobs.planning import given
from tests.support.cli import Place, opened
from tests.support.paths import ROOT

MODULES = [ddqjobs, ddqjobs.project, ddqjobs.project.looking, ddqjobs.project.opened, given, html]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        monkeypatch.chdir(project.root)
        yield project


def test_the_examples_of_docstrings_run(place: Place) -> None:
    names = {"project": ddqjobs.open_project(place.root), "Plan": ddqjobs.Plan}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    for module in MODULES:
        tests = [t for t in doctest.DocTestFinder().find(module, extraglobs=names) if t.examples]
        assert tests
        for test in tests:
            runner.run(test)
    assert runner.failures == 0


def test_every_name_is_there_has_a_docstring_and_stands_on_the_page() -> None:
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    for name in ddqjobs.__all__:
        assert name in dir(ddqjobs)
        assert getattr(ddqjobs, name).__doc__
        assert f"`{name}`" in page
    with pytest.raises(AttributeError):
        _ = ddqjobs.no_such_name


def test_names_and_objects_are_accepted_alike(place: Place) -> None:
    project = ddqjobs.open_project()
    plan = project.plan("tiny")
    first = plan.runs[0]
    for experiment in (None, "tiny", Path("experiments/tiny.yaml"), plan, project.report(plan)):
        assert project.plan(experiment) == plan
    for site in (None, "local", project.site("local")):
        assert project.plan(plan, site=site) == plan
        assert project.using([], site) == {}
    for run in (first.run.name, first.run, first):
        for whole in ("tiny", plan):
            assert project.status(whole, run)[0].planned == first
            assert project.status(whole, [run])[0].planned == first
            assert project.attempts(whole, run) == []
    for filters in (first.run.name, [first], "fir*", ddqjobs.Filters(runs=("first",))):
        scripts, _ = project.dry_run(plan, filters)
        assert [script.runs for script in scripts] == [("first",)]
    assert project.retry("tiny", "first") == []
    with pytest.raises(ddqjobs.MissingError, match="did you mean 'first'"):
        project.cancel(plan, "frist")
    done = project.wait("tiny", "first")
    assert [planned.status for planned in done.runs] == [ddqjobs.Status.DONE]
    assert project.log(done, "first").read_text().startswith("hello from first")


def test_a_notebook_shows_tables_without_markup_or_secrets_of_others(place: Place) -> None:
    project = ddqjobs.open_project()
    plan = project.plan("tiny")
    secrets.remember({"api_token": "s3cret-of-a-notebook"})
    reason = "<script>alert(1)</script> s3cret-of-a-notebook"
    bad = msgspec.structs.replace(plan.runs[0], reason=reason)
    markup = msgspec.structs.replace(plan, runs=(bad, *plan.runs[1:]))._repr_html_()
    assert "&lt;script&gt;" in markup
    assert "<script>" not in markup
    assert "s3cret" not in markup
    assert "<td>second.m1</td>" in markup
    assert "overall" not in (report := project.report(plan)._repr_html_())
    assert report.startswith("<p><b>tiny: ")
    assert project.results(plan)._repr_html_().count("<tr") > len(plan.runs)  # type: ignore[operator]
    assert os.fspath(place.root) not in markup
