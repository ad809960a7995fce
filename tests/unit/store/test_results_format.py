"""The format of a results folder: what a newer ddqjobs made is refused, what an older one made is read."""

from __future__ import annotations

import json

import pytest

from ddqjobs.base.errors import StateError
from ddqjobs.base.version import VERSION
from ddqjobs.store import results_format
from ddqjobs.store.layout import Layout
from tests.support.trivial import TrivialProject


def test_the_first_submission_marks_the_folder(trivial: TrivialProject) -> None:
    assert not trivial.results.exists()
    trivial.submit_all()
    marked = json.loads(Layout(trivial.results).format.read_text())
    assert marked == {"format": results_format.FORMAT, "version": VERSION}


def test_looking_at_a_plan_leaves_no_mark(trivial: TrivialProject) -> None:
    trivial.plan()
    assert not trivial.results.exists()


def test_a_folder_of_a_newer_ddqjobs_is_refused_and_left_alone(trivial: TrivialProject) -> None:
    trivial.submit_all()
    mark = Layout(trivial.results).format
    mark.write_text(json.dumps({"format": results_format.FORMAT + 1, "version": "7.0.0", "more": True}))
    before = sorted(path for path in trivial.results.rglob("*"))
    for arguments in (("plan",), ("submit",), ("status",), ("report",)):
        refused = trivial.cli(*arguments)
        assert refused.code == 2
        assert refused.stderr.count("\n") == 1
        assert "made by ddqjobs 7.0.0 in results format 2" in refused.stderr
        assert "install ddqjobs 7.0.0 or later" in refused.stderr
    assert sorted(path for path in trivial.results.rglob("*")) == before


def test_a_folder_without_a_mark_is_read(trivial: TrivialProject) -> None:
    done = trivial.submit_all()
    Layout(trivial.results).format.unlink()
    assert {planned.status for planned in trivial.plan().runs} == {
        planned.status for planned in done.values()
    }


def test_a_mark_that_cannot_be_read_is_reported_with_what_to_do(trivial: TrivialProject) -> None:
    trivial.submit_all()
    for text in ("", "{", "[]", '{"format": "one", "version": "1"}'):
        Layout(trivial.results).format.write_text(text)
        with pytest.raises(StateError, match=r"not a results format .* restore the file, or delete it"):
            trivial.plan()
