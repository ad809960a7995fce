"""Inputs on a node's own disk: copied once, whole or not at all, whoever is killed when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base.errors import InputError
from tests.support.staging import declare, where
from tests.support.trivial import EXPERIMENT, TrivialProject, until

FILES = 3000
USING = (  # what a task's shell does: open, lock, then work
    'exec {folder}< "${1%/*}"; "$0" -m ddqjobs.detect.stage use "$folder" "$1" || exit 1; '
    "echo used; read -r _"
)


class Node:
    """A node: its disk, and a source elsewhere."""

    def __init__(self, root: Path) -> None:
        self.disk, self.source = root / "disk", root / "shared" / "coco"
        self.disk.mkdir()
        self.source.mkdir(parents=True)
        self.started: list[subprocess.Popen[str]] = []

    def fill(self, count: int = 5, size: int = 1000) -> None:
        """Files in the source."""
        for n in range(count):
            folder = self.source / f"part{n % 7}"
            folder.mkdir(exist_ok=True)
            (folder / f"{n}.jpg").write_bytes(bytes([n % 256]) * size)

    def stage(self, *before: str, folder: Path | None = None, **variables: str) -> subprocess.Popen[str]:
        """A job's call for the copy."""
        argv = [*before, sys.executable, "-m", "ddqjobs.detect.stage", "copy"]
        child = subprocess.Popen(
            [*argv, str(self.source), str(folder or self.disk)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables},
        )  # fmt: skip
        self.started.append(child)
        return child

    def staged(self) -> Path:
        """Stages, and the copy's path."""
        out, err = self.stage().communicate(timeout=60)
        assert out, err
        return Path(out.rstrip("\n"))

    def use(self, copy: Path) -> subprocess.Popen[str]:
        """A task that uses a copy until its standard input ends."""
        child = subprocess.Popen(
            ["bash", "-c", USING, sys.executable, str(copy)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.started.append(child)
        return child

    def drafts(self) -> list[Path]:
        """Copies in the making, and what is left of such."""
        return list(self.disk.glob("*/*/*.tmp"))

    def copies(self) -> list[Path]:
        """Whole copies."""
        return [path for path in self.disk.glob("*/*/*/coco") if path.parent.suffix != ".tmp"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    machine = Node(tmp_path)
    yield machine
    for child in machine.started:
        child.kill()
        child.communicate()


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Path -> bytes and time of change, links followed."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for top, _, names in os.walk(folder, followlinks=True)
        for path in (Path(top) / name for name in names)
    }


def test_a_copy_is_the_source_with_its_links_followed_and_is_made_once(node: Node, tmp_path: Path) -> None:
    node.fill()
    (node.source / "empty").mkdir()
    (node.source / "val2017").symlink_to(node.source / "part1")
    (node.source / "a 'b'\n\udcff").write_text("odd")
    tool = node.source / "tool.sh"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    copy = node.staged()
    assert copy.is_relative_to(node.disk)
    assert content(copy) == content(node.source)
    assert (copy / "empty").is_dir()
    assert os.access(copy / "tool.sh", os.X_OK)
    assert not [path for path in copy.rglob("*") if path.is_symlink()]
    out, err = node.stage().communicate()
    assert (out, err) == (f"{copy}\n", "")
    link = tmp_path / "artifact"
    link.symlink_to(node.source)
    node.source = link
    assert node.staged() == copy


def test_a_file_is_staged_too(node: Node) -> None:
    node.source /= "weights.pth"
    node.source.write_bytes(b"w" * 100_000)
    copy = node.staged()
    assert (copy.name, copy.read_bytes()) == ("weights.pth", b"w" * 100_000)
    node.source.write_bytes(b"v" * 100_000)
    assert node.staged().read_bytes() == b"v" * 100_000


def test_of_jobs_that_start_together_one_copies_and_the_others_wait(node: Node) -> None:
    node.fill(FILES)
    answers = [child.communicate(timeout=120) for child in [node.stage() for _ in range(4)]]
    assert len({out for out, _ in answers}) == 1
    assert sum("copying" in err for _, err in answers) == 1
    assert len(node.copies()) == 1
    assert node.drafts() == []


def test_when_the_copier_is_killed_nobody_uses_what_it_left_and_the_next_one_copies(node: Node) -> None:
    node.fill(FILES)
    first = node.stage()
    until(lambda: list(node.disk.glob("*/*/*.tmp/coco/*/*")))
    first.send_signal(signal.SIGSTOP)
    assert node.copies() == []
    second = node.stage()
    assert second.stderr
    assert "another job copies the input to this node: waiting" in second.stderr.readline()
    assert second.poll() is None
    count = sum(len(files) for _, _, files in os.walk(node.drafts()[0]))
    assert 0 < count < FILES
    first.kill()
    first.wait()
    out, err = second.communicate(timeout=120)
    assert "copying" in err
    assert content(Path(out.rstrip("\n"))) == content(node.source)
    assert node.drafts() == []


def test_what_a_killed_copier_left_is_not_used_by_whoever_comes_later(node: Node) -> None:
    node.fill(FILES)
    first = node.stage()
    until(lambda: list(node.disk.glob("*/*/*.tmp/coco/*/*")))
    first.kill()
    first.wait()
    assert len(node.drafts()) == 1
    assert content(node.staged()) == content(node.source)
    assert node.drafts() == []


def test_a_source_that_changed_is_copied_anew_and_the_old_copy_goes_when_unused(node: Node) -> None:
    node.fill()
    old = node.staged()
    user = node.use(old)
    assert user.stdout
    assert user.stdout.readline() == "used\n"
    before = content(old)
    (node.source / "part0" / "0.jpg").write_bytes(b"!" * 1000)  # as long as before
    new = node.staged()
    assert new != old
    assert content(new) == content(node.source)
    assert content(old) == before  # of the task that goes on
    user.communicate("\n", timeout=60)
    node.staged()
    assert node.copies() == [new]
    late = node.use(old)
    assert late.wait(60) == 1  # between the answer and the lock it was removed: the task reads the source
    (node.source / "part0" / "0.jpg").unlink()
    assert not (node.staged() / "part0" / "0.jpg").exists()


def test_a_copy_that_was_cut_short_is_made_anew(node: Node) -> None:
    """As a node may have it that lost its power."""
    node.fill()
    copy = node.staged()
    (copy / "part1" / "1.jpg").write_bytes(b"")
    user = node.use(copy)
    assert user.stdout
    assert user.stdout.readline() == "used\n"
    out, err = node.stage().communicate()
    assert out == ""
    assert "is damaged, and a task uses it; it is read where it lies" in err
    user.communicate("\n", timeout=60)
    assert content(node.staged()) == content(node.source)


def test_a_stop_ends_the_copying_and_the_waiting(node: Node, tmp_path: Path) -> None:
    node.fill(FILES)
    stop = tmp_path / "stop"
    first = node.stage()
    until(node.drafts)
    first.send_signal(signal.SIGSTOP)
    second = node.stage(DDQJOBS_STOP=str(stop))
    assert second.stderr
    second.stderr.readline()
    stop.touch()
    assert second.wait(60) == 75
    first.kill()
    first.wait()
    assert node.stage(DDQJOBS_STOP=str(stop)).wait(60) == 75
    assert node.copies() == node.drafts() == []


# -- no room ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=8m", "it needs 0.08 GiB, and"),
        ("size=200m,nr_inodes=40", "No space left on device"),
    ],
    ids=["seen before", "seen while copying"],
)
def test_where_the_disk_is_too_small_the_source_is_used_with_one_warning(
    node: Node, options: str, message: str
) -> None:
    """On a real file system of that size, seen by the job alone."""
    node.fill(200, 100_000)
    inside = f'mount -t tmpfs -o {options} none {node.disk} && "$@"; ls -A {node.disk}/*/* >&2; exit 0'
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    child = node.stage("unshare", "--mount", *own, "bash", "-c", inside, "bash")
    out, err = child.communicate(timeout=60)
    if "unshare failed" in err or "mount: " in err:
        pytest.skip(f"FULL DISKS ARE NOT TESTED: no file system of one's own here: {err.splitlines()[0]}")
    assert out == ""
    warnings = [line for line in err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"stage: warning: {node.source} is not staged: ")
    assert message in warnings[0]
    assert warnings[0].endswith("; it is read where it lies")
    assert err.splitlines()[-1] == "lock"  # nothing half stays


@pytest.mark.parametrize(
    ("folder", "message"),
    [("", "stage_to is '' on this node"), ("/no/such/folder", "there is no folder /no/such on this node")],
)
def test_a_node_without_such_a_folder_uses_the_source(node: Node, folder: str, message: str) -> None:
    node.fill()
    argv = [sys.executable, "-m", "ddqjobs.detect.stage", "copy", str(node.source), folder]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert message in ran.stderr


def test_a_folder_of_somebody_else_is_not_trusted(node: Node) -> None:
    (node.disk / "elsewhere").mkdir()
    (node.disk / f"ddqjobs-{os.geteuid()}").symlink_to("elsewhere")
    out, err = node.stage().communicate()
    assert out == ""
    assert "is not a folder that belongs to you" in err


def test_links_in_a_circle_and_what_is_no_file_are_left_where_they_are(node: Node) -> None:
    node.fill()
    (node.source / "part0" / "again").symlink_to(node.source)
    assert "symbolic link loop" in node.stage().communicate()[1]
    (node.source / "part0" / "again").unlink()
    os.mkfifo(node.source / "pipe")
    assert "is not a regular file" in node.stage().communicate()[1]


# -- whole runs ------------------------------------------------------------------------------------------


def test_runs_read_the_copy_where_the_site_has_a_place_for_it(
    trivial: TrivialProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = trivial.root / "a 'disk'"
    disk.mkdir()
    monkeypatch.setenv("SCRATCH", str(disk))
    trivial.local_site(stage_to="$SCRATCH/$(id)")
    declare(trivial, stage=["b"])
    digests = {planned.run.name: planned.run.digest for planned in trivial.plan().runs}
    plan = trivial.submit_all()
    assert {planned.status.value for planned in plan.values()} == {"done"}
    (copy,) = {where(trivial, "read.s1"), where(trivial, "read.s2")}
    assert copy.is_relative_to(disk / "$(id)")
    assert (copy / "file").read_text() == "content\n"
    logs = "".join(path.read_text() for path in trivial.results.glob("runs/read.*/attempts/1/stdout.log"))
    assert logs.count("stage: copying ") == 1
    declare(trivial, stage=[])
    assert {
        planned.run.name: planned.run.digest for planned in trivial.plan().runs
    } == digests  # the same result either way


@pytest.mark.parametrize(("stage_to", "warnings"), [("", 0), ("$NOT_SET", 1)])
def test_without_a_place_for_it_runs_read_the_original(
    trivial: TrivialProject, stage_to: str, warnings: int
) -> None:
    trivial.local_site(stage_to=stage_to)
    declare(trivial, stage=["b"])
    assert trivial.submit_all()["read.s1"].status.value == "done"
    assert where(trivial, "read.s1") == trivial.results / "runs" / "data" / "artifacts" / "data"
    log = (trivial.results / "runs/read.s1/attempts/1/stdout.log").read_text()
    assert log.count("stage: ") == log.count("stage: warning: ") == warnings


def test_what_cannot_be_staged_is_refused_with_its_line(trivial: TrivialProject) -> None:
    declare(trivial, stage=["bb"])
    with pytest.raises(InputError, match=r"unknown input 'bb'; .*declared: b"):
        trivial.open().load(EXPERIMENT)
    declare(trivial, stage=["b"])
    trivial.local_site(stage_to="scratch")
    with pytest.raises(InputError, match=r"site.yaml:\d+: 'scratch' is no folder of a node"):
        trivial.plan()
