"""The counted content of sources is kept between commands, and read again when it may have changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ddqjobs.planning import syntax
from ddqjobs.planning.digest import FORMAT, Content
from ddqjobs.planning.fingerprint import Fingerprints

OLD = Path(syntax.__file__)  # a file that nobody has just written
FORM = syntax.read_file(OLD).form


def read(project: Path, path: Path) -> str:
    """The form of a source, as one command reads it."""
    outside = Fingerprints(project)
    form = outside.source(path).form
    outside.save()
    return form


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The file of a project in which a command has read a source."""
    (tmp_path / "results").mkdir()
    assert read(tmp_path, OLD) == FORM
    return tmp_path / "results" / ".fingerprints.json"


def test_a_source_is_parsed_once(kept: Path, tmp_path: Path) -> None:
    kept.write_text(kept.read_text().replace(FORM, "kept"))
    assert read(tmp_path, OLD) == "kept"


@pytest.mark.parametrize(("old", "new"), [(f'"reader":[{FORMAT},', '"reader":[0,'), ('{"reader"', "torn")])
def test_what_another_version_has_kept_or_a_torn_file_is_not_used(
    kept: Path, tmp_path: Path, old: str, new: str
) -> None:
    text = kept.read_text().replace(FORM, "kept")
    assert old in text
    kept.write_text(text.replace(old, new))
    assert read(tmp_path, OLD) == FORM


def test_looking_leaves_no_traces_where_nothing_was_submitted(tmp_path: Path) -> None:
    read(tmp_path, OLD)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_has_just_changed_is_read_again(kept: Path, tmp_path: Path) -> None:
    """Also if its size, and on a coarse clock its time, are those of before."""
    source = tmp_path / "a.py"
    forms = []
    for number in "1234":
        source.write_text(f"a = {number}\n")
        forms.append(read(tmp_path, source))
    assert len(set(forms)) == 4


def test_a_content_comes_with_what_tells_it_from_a_later_one(tmp_path: Path) -> None:
    at, new = OLD.stat(), tmp_path / "a.pth"
    new.write_text("a")
    content = Fingerprints(tmp_path).file(str(OLD))
    assert content == (hashlib.sha256(OLD.read_bytes()).hexdigest(), at.st_size, at.st_ctime_ns)
    assert Fingerprints(tmp_path).file("a.pth").changed_ns == 0  # its clock may be coarse: the job reads it
    assert Fingerprints(tmp_path).file("none.pth") == Content()
