"""A stranger's project is data: looking at it runs nothing that it brings, and its state is still told."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.detect import tree
from ddqjobs.detect.job.work_tree import GitError, WorkTree
from tests.support.cli import Place, opened


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "project") as project:
        yield project


def git(folder: Path, *arguments: str) -> str:
    named = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "protocol.file.allow=always"]
    done = process.run([*named, "-C", str(folder), *arguments], timeout=60)
    assert done.code == 0, done.stderr
    return done.stdout


def repository(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def changes(folder: Path) -> list[bytes]:
    return list(WorkTree(folder).changes())


HOOKS = ("post-index-change", "fsmonitor-watchman", "pre-commit", "post-checkout", "reference-transaction")
SETTINGS = (
    *("core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.gitProxy", "core.askPass"),
    *("filter.evil.clean", "filter.evil.smudge", "filter.evil.process"),
    *("filter.lfs.clean", "filter.lfs.process", "core.alternateRefsCommand"),
    *("diff.external", "diff.evil.textconv", "diff.evil.command", "credential.helper", "gpg.program"),
    *("interactive.diffFilter", "pager.ls-files", "pager.config", "pager.rev-parse"),
    "remote.origin.uploadpack",
)


def plant(folder: Path, trace: Path) -> None:
    """Have everything that git can be made to start leave a line in ``trace``."""
    tool = folder.parent / "tool"
    tool.write_text(f'#!/bin/sh\necho "$0 $*" >> {trace}\ncat\n')
    tool.chmod(0o755)
    command = str(tool)
    for hook in HOOKS:
        shutil.copy(tool, folder / ".git" / "hooks" / hook)
    for setting in SETTINGS:
        git(folder, "config", setting, command)
    for name in ("ls-files", "ls-tree", "rev-parse", "config", "check-attr", "status", "diff"):
        git(folder, "config", f"alias.{name}", f"!{command}")
    git(folder, "config", "remote.origin.url", f"ext::{command}")
    git(folder, "config", "remote.origin.promisor", "true")
    (folder / ".git" / "info" / "attributes").write_text("* filter=evil diff=evil\n*.bin filter=lfs\n")
    (folder / "train.py").write_text("changed")
    (folder / "weights.bin").write_text("changed")


def test_no_command_runs_what_a_tree_names(place: Place, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    checkout = repository(tmp_path / "checkout", train_py=b"first", weights_bin=b"first")
    plant(checkout, trace)
    file = place.root / "experiments/tiny.yaml"
    file.write_text(file.read_text().replace("path: .", f"path: {checkout}"))
    trace.unlink(missing_ok=True)
    for arguments in (["plan"], ["submit", "--dry-run"], ["status"], ["report"]):
        ran = place.invoke(*arguments, "tiny")
        assert (ran.code, ran.err) == (0, "")
    assert not trace.exists()
    git(checkout, "--no-pager", "diff", "--stat")  # git itself would have
    assert trace.exists()


ESCAPES = (
    "{{ exits.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('touch ' ~ results) }}",
    "{{ title.__class__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ ''|attr('__class__') }}",
    "{{ setup.append('x') }}",
    "{{ 'a' * 10000000000 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{% for i in range(1000000000) %}{% endfor %}",
    "{% include '../../../../etc/passwd' %}",
)


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_template_stays_in_its_sandbox(place: Place, escape: str) -> None:
    template = place.text("templates/local/job.sh.j2", "first line\n" + escape)
    ran = place.invoke("submit", "tiny", "first", "--dry-run")
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith(f"error: {template}:2: ")


def test_a_template_that_is_no_regular_file_is_not_opened(place: Place) -> None:
    template = place.text("templates/local/job.sh.j2", "")
    template.unlink()
    template.symlink_to("/dev/zero")
    ran = place.invoke("submit", "tiny", "first", "--dry-run")
    assert (ran.code, ran.err) == (2, f"error: {template}: not a regular file\n")


def test_the_templates_of_a_project_are_named(place: Place) -> None:
    place.text("templates/local/job.sh.j2", '{% extends "local.sh.j2" %}\n')
    line = "this project's own templates write its job scripts: templates/local/job.sh.j2"
    assert line in place.invoke("plan", "tiny").out.splitlines()
    assert f"# {line}" in place.invoke("submit", "tiny", "--dry-run").out.splitlines()
    assert line in place.invoke("submit", "tiny", "first").out.splitlines()


def test_the_digest_of_a_clean_tree_is_that_of_earlier_versions(tmp_path: Path) -> None:
    folder = repository(tmp_path / "t", a_py=b"1", b_sh=b"2")
    head = git(folder, "rev-parse", "HEAD").encode()
    parts = b"".join(b"%d\0" % len(part) + part for part in (head, b""))
    assert tree.digest(folder) == hashlib.sha256(parts).hexdigest()


def line_ends(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"one\r\ntwo\r\n")


@pytest.mark.parametrize("attribute", ["text", "text=auto", "eol=crlf"])
def test_line_ends_that_git_converts_are_no_change(tmp_path: Path, attribute: str) -> None:
    folder = repository(tmp_path / "t", a_txt=b"one\ntwo\n", _gitattributes=f"*.txt {attribute}\n".encode())
    line_ends(folder)
    assert not changes(folder)
    (folder / "a.txt").write_bytes(b"one\r\nTWO\r\n")
    assert len(changes(folder)) == 1


def test_line_ends_that_git_does_not_convert_are_a_change(tmp_path: Path) -> None:
    folder = repository(tmp_path / "t", a_txt=b"one\ntwo\n", b_txt=b"1\n", _gitattributes=b"*.txt -text\n")
    line_ends(folder)
    assert len(changes(folder)) == 1
    (folder / ".gitattributes").write_text("")
    git(folder, "config", "core.autocrlf", "input")
    assert [c.partition(b"\0")[0] for c in changes(folder)] == [b".gitattributes"]


def test_a_file_behind_a_pointer_of_lfs_is_no_change(tmp_path: Path) -> None:
    content = b"weights" * 1000
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n"
    pointer %= hashlib.sha256(content).hexdigest().encode(), len(content)
    folder = repository(tmp_path / "t", w_bin=pointer, _gitattributes=b"*.bin filter=lfs diff=lfs -text\n")
    assert not changes(folder)  # not fetched
    (folder / "w.bin").write_bytes(content)
    assert not changes(folder)
    (folder / "w.bin").write_bytes(content[:-1])
    assert len(changes(folder)) == 1


def test_submodules_count_with_what_they_hold(tmp_path: Path) -> None:
    inner = repository(tmp_path / "inner", a_py=b"1")
    outer = repository(tmp_path / "outer", b_py=b"2")
    git(outer, "submodule", "--quiet", "add", str(inner), "sub")
    git(outer, "commit", "-q", "-m", "second")
    assert not changes(outer)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(outer), str(clone))
    assert not changes(clone)  # a submodule that was not fetched
    states = {tree.digest(outer)}
    (outer / "sub" / "a.py").write_text("2")
    states.add(tree.digest(outer))
    git(outer / "sub", "commit", "-q", "-a", "-m", "second")
    states.add(tree.digest(outer))
    (outer / "sub" / "new.py").write_text("3")
    states.add(tree.digest(outer))
    assert len(states) == 4


def delete(folder: Path) -> None:
    (folder / "a.py").unlink()


def executable(folder: Path) -> None:
    (folder / "a.py").chmod(0o755)


def link(folder: Path) -> None:
    (folder / "a.py").unlink()
    (folder / "a.py").symlink_to("b.py")


def remove(folder: Path) -> None:
    git(folder, "rm", "-q", "--cached", "a.py")


def touch(folder: Path) -> None:
    (folder / "a.py").write_bytes((folder / "a.py").read_bytes())


@pytest.mark.parametrize(
    ("change", "count"), [(delete, 1), (executable, 1), (link, 1), (remove, 1), (touch, 0)]
)
def test_every_change_of_a_tracked_file_counts(
    tmp_path: Path, change: Callable[[Path], None], count: int
) -> None:
    folder = repository(tmp_path / "t", a_py=b"1", b_py=b"2")
    change(folder)
    assert len(changes(folder)) == count


def test_a_sparse_checkout_and_modes_that_do_not_count_are_no_change(tmp_path: Path) -> None:
    folder = repository(tmp_path / "t", a_py=b"1", b_py=b"2")
    git(folder, "update-index", "--skip-worktree", "a.py")
    (folder / "a.py").unlink()
    assert not changes(folder)
    (folder / "b.py").chmod(0o755)
    git(folder, "config", "core.fileMode", "false")
    assert not changes(folder)


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = repository(tmp_path / "t", a_py=b"1")
    (folder / "d").mkdir()
    (folder / "d" / "x.py").write_text("1")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "second")
    (folder / "d").rename(tmp_path / "d")
    (folder / "d").symlink_to(tmp_path / "d")
    assert changes(folder) == [b"d/x.py\0gone"]


def test_pipes_in_a_tree_are_not_opened(tmp_path: Path) -> None:
    folder = repository(tmp_path / "t", a_py=b"1")
    (folder / "a.py").unlink()
    os.mkfifo(folder / "a.py")
    os.mkfifo(folder / "new.py")
    assert len(changes(folder)) == 1
    assert tree.digest(folder)


def test_objects_that_were_not_fetched_are_not_fetched(tmp_path: Path) -> None:
    folder = repository(tmp_path / "t", a_py=b"1")
    trace = tmp_path / "trace"
    git(folder, "config", "remote.origin.url", f"ext::touch {trace}")
    git(folder, "config", "remote.origin.promisor", "true")
    git(folder, "config", "extensions.partialClone", "origin")
    oid = git(folder, "rev-parse", "HEAD^{tree}").strip()
    (folder / ".git" / "objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(GitError):
        changes(folder)
    assert not trace.exists()
