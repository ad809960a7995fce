"""Files that are whole or absent: a failed write, a race, permissions, links; nothing else stays."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ddqjobs.base import files, process
from tests.support.trivial import end_of, fork

# A process that may write files of 4 KiB at most, as on a disk that fills up in the middle of a write.
_FULL = """
import resource, signal, sys
from pathlib import Path
from ddqjobs.base import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write = getattr(files, sys.argv[1])
try:
    write(Path(sys.argv[2]), b"x" * 5000)
except OSError as error:
    sys.exit(f"{error.strerror}")
"""


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    files.replace(path, b"one")
    files.replace(path, b"two")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("x", b"two")]


def test_a_file_is_created_whole_or_not_at_all_and_nothing_else_stays(tmp_path: Path) -> None:
    assert files.create(tmp_path / "x", b"one")
    assert not files.create(tmp_path / "x", b"two")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("x", b"one")]


@pytest.mark.parametrize(("write", "stays"), [("replace", ["old"]), ("create", [])])
def test_a_write_that_fails_half_way_leaves_everything_as_it_was(
    tmp_path: Path, write: str, stays: list[str]
) -> None:
    path = tmp_path / "x"
    for text in stays:
        path.write_text(text)
    # Else coverage writes a file too, when the process ends.
    known = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    done = process.run([sys.executable, "-c", _FULL, write, str(path)], timeout=60, env=known)
    assert (done.code, done.stderr) == (1, "File too large\n")
    assert [entry.read_text() for entry in tmp_path.iterdir()] == stays


def test_of_several_processes_one_creates_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    ready, go = os.pipe()

    def compete(number: int) -> None:
        os.read(ready, 1)
        if files.create(path, b"%d" % number):
            (tmp_path / f"winner{number}").touch()

    pids = [fork(lambda n=n: compete(n)) for n in range(6)]  # type: ignore[misc]
    os.write(go, b"\n" * len(pids))
    assert [end_of(pid) for pid in pids] == [0] * len(pids)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [f"winner{path.read_text()}", "x"]


@pytest.mark.parametrize(("mode", "umask", "expected"), [(0o666, 0o027, 0o640), (0o600, 0o022, 0o600)])
def test_permissions_are_those_asked_for_less_the_umask(
    tmp_path: Path, mode: int, umask: int, expected: int
) -> None:
    before = os.umask(umask)
    try:
        files.create(tmp_path / "created", b"", mode)
        files.replace(tmp_path / "replaced", b"", mode)
    finally:
        os.umask(before)
    assert {entry.name: entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {
        "created": expected,
        "replaced": expected,
    }


def test_a_link_takes_the_place_of_a_link_but_never_of_a_folder(tmp_path: Path) -> None:
    link, folder = tmp_path / "link", tmp_path / "folder"
    folder.mkdir()
    files.link(link, "nowhere")
    files.link(link, folder)
    assert link.readlink() == folder
    with pytest.raises(IsADirectoryError):
        files.link(folder, "elsewhere")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "link"]
