"""A project that a group shares: whatever a site with `umask` leaves can be read and written by the group."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ddqjobs.base.errors import InputError
from tests.support.slurm import Lab, SlurmProject
from tests.support.trivial import EXPERIMENT, TrivialProject, task
from tests.unit.submission.test_script import GOOD, SITES, Job, shell

WORK = (
    'cd "$DDQJOBS_WORK_DIR"; mkdir -p deep; echo x > "deep/file$DDQJOBS_NODE_RANK"; umask > umask; '
    "echo done > out.txt"
)


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """A user whose files are his own."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, int]:
    """Path below root -> permissions, of all files and folders but links."""
    permissions = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            if not path.is_symlink():
                permissions[str(path.relative_to(root))] = stat.S_IMODE(path.lstat().st_mode)
    return permissions


def test_what_a_real_run_leaves_is_the_group_s(trivial: TrivialProject) -> None:
    trivial.local_site(umask="0007", setup=["umask 022"])
    trivial.tasks({"first": task(), "second": task(seeds=[1, 2], inputs={"b": "first.out"})}, work=WORK)
    result = trivial.cli("submit", "--wait")
    assert result.code == 0, result
    assert trivial.cli("report", "--format", "json").code == 0
    assert trivial.cli("clean", "--yes").code == 0
    permissions = modes(trivial.results)
    for part in ("ledger", "claims", "code", "submissions", "runs"):
        assert any(name.startswith(f"{part}/") for name in permissions), part
    assert (trivial.results / "runs/first/artifacts/out").read_text() == "done\n"
    assert {name: oct(m) for name, m in permissions.items() if m & 0o007 or m & 0o660 != 0o660} == {}
    wrong = {n: oct(m) for n, m in permissions.items() if (trivial.results / n).is_dir() and m != 0o770}
    assert wrong == {}
    assert permissions["runs/first/attempts/1/work_dir/deep/file"] == 0o660
    scripts = [m for name, m in permissions.items() if name.endswith("job.sh")]
    assert set(scripts) == {0o770}
    assert stat.S_IMODE(trivial.results.stat().st_mode) == 0o770


def test_without_it_the_user_s_own_umask_holds(trivial: TrivialProject) -> None:
    trivial.tasks({"first": task()}, work=WORK)
    assert trivial.cli("submit", "--wait").code == 0
    permissions = modes(trivial.results)
    assert set(permissions.values()) == {0o600, 0o700}
    assert (trivial.results / "runs/first/attempts/1/work_dir/umask").read_text() == "0077\n"


def test_the_script_sets_it_itself_whoever_starts_it(tmp_path: Path) -> None:
    """A scheduler's daemon may start it with another one than the command that submitted it had."""
    os.umask(0o022)
    own = msgspec.structs.replace(SITES["local"], python=sys.executable, umask="0007", setup=["umask 077"])
    job = Job(tmp_path, shell(GOOD), site=own)
    assert job.run() == (0, "")
    permissions = {**modes(tmp_path / "runs"), **modes(tmp_path / "claims")}
    assert {name: oct(m) for name, m in permissions.items() if m not in (0o660, 0o770)} == {}


@pytest.mark.parametrize("value", ["7", "007", "0700", "0o007", "0008", "rwx", "00077", "$(id)", 7, 77, 177])
def test_anything_else_is_refused_with_its_line(trivial: TrivialProject, value: object) -> None:
    trivial.local_site(umask=value)
    with pytest.raises(InputError, match=r"umask may not be '.*': four octal digits in quotes") as error:
        trivial.open().plan(EXPERIMENT)
    (problem,) = error.value.problems
    assert problem.file.endswith("templates/local/site.yaml")
    assert problem.line


def test_on_slurm_on_each_node(lab: Lab, on_slurm: SlurmProject) -> None:
    on_slurm.site(umask="0007", variables={"HF_TOKEN": "of every node"})
    work = f'{WORK}; echo "$HF_TOKEN" > "deep/file$DDQJOBS_NODE_RANK"'
    on_slurm.tasks({"first": task(resources={"nodes": 2})}, work=work)
    assert on_slurm.cli("submit", "--wait").code == 0
    permissions = modes(on_slurm.results)
    assert {name: oct(m) for name, m in permissions.items() if m not in (0o660, 0o770)} == {}
    for rank in (0, 1):
        path = f"runs/first/attempts/1/work_dir/deep/file{rank}"
        assert permissions[path] == 0o660
        assert (on_slurm.results / path).read_text() == "of every node\n"  # its secret reached each
    assert any(name.endswith("/out/0.log") for name in permissions)
