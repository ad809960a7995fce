"""Backends: what each can express, and that nobody else asks which scheduler a site has."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

import ddqjobs
from ddqjobs.base.errors import InputError
from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.backend import Job
from ddqjobs.schedulers.registry import BACKENDS, backend, capabilities
from ddqjobs.spec.model import Resources
from ddqjobs.spec.site import Site
from tests.support.paths import ROOT

PACKAGE = Path(ddqjobs.__file__).parent
# The only names of schedulers outside their folders. The default site is called as its scheduler.
ALLOWED = {("spec/site.py", "local")}  # the name of the site of commands that name none


def site(name: str) -> Site:
    """A shipped site."""
    return Catalog(ROOT).site(name)


def test_each_scheduler_has_a_folder_a_template_and_a_line_in_the_registry() -> None:
    folders = {path.parent.name for path in (PACKAGE / "schedulers").glob("*/__init__.py")}
    templates = {path.name.removesuffix(".sh.j2") for path in (ROOT / "templates").glob("*.sh.j2")}
    assert {backend.name for backend in BACKENDS.values()} == set(BACKENDS) == folders
    assert folders <= templates


def test_what_each_can_express() -> None:
    assert capabilities(site("local")).own_dependencies
    assert capabilities(site("slurm")).arrays
    assert not capabilities(site("bscc")).dependencies
    donau = {**site("bscc").sections["donau"], "dependencies": True, "avoid": True}
    donau_site = msgspec.structs.replace(site("bscc"), sections={"donau": donau})
    assert (capabilities(donau_site).dependencies, capabilities(donau_site).avoids) == (True, True)


def words(path: Path) -> frozenset[str]:
    """Return the texts of a module, without those that stand alone, as docstrings do."""
    tree = ast.parse(path.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in alone)
    return frozenset(node.value for node in texts if isinstance(node.value, str))


def test_nobody_else_names_a_scheduler() -> None:
    """Code that compares with a name, or looks something up by it, belongs into that folder."""
    named = {
        (str(path.relative_to(PACKAGE)), scheduler)
        for path in PACKAGE.rglob("*.py")
        for scheduler in BACKENDS
        if path.relative_to(PACKAGE).parts[:2] != ("schedulers", scheduler)
        and "shipped_files" not in path.parts
        and scheduler in words(path)
    }
    assert named <= ALLOWED


@pytest.mark.parametrize("scheduler", BACKENDS)
def test_no_common_template_asks_for_a_scheduler(scheduler: str) -> None:
    for path in (ROOT / "templates").glob("*.j2"):
        if not path.name.startswith(f"{scheduler}."):
            assert f'"{scheduler}"' not in path.read_text(), path.name


def with_extra(project: Path, base: str, option: str) -> Site:
    """A site with one further option, on line 3 of its file."""
    path = project / "templates" / "mine" / "site.yaml"
    path.parent.mkdir(parents=True)
    section = "slurm" if base == "slurm" else "donau"
    path.write_text(f"{{name: mine, base: {base},\n{section}: {{extra: [\n{option!r}]}}}}\n")
    return Catalog(project).site("mine")


@pytest.mark.parametrize(
    ("base", "option", "message"),
    [
        ("slurm", "--gres=gpu:4", "--gres=gpu has a key of its own: write `resources.gpus` in the task, and"),
        ("slurm", "--gres=lscratch:9,gpu:a100:2", "--gres=gpu has a key of its own"),
        ("slurm", "--gpus=4", "--gpus has a key of its own: write `resources.gpus`"),
        ("slurm", "--gpus-per-node=4", "--gpus-per-node has a key of its own"),
        ("slurm", "--gpus-per-task=4", "--gpus-per-task has a key of its own"),
        (
            "slurm",
            "--time=1",
            "--time has a key of its own: write `resources.time` in the task, or `limits.ti",
        ),
        ("slurm", "--nodes=2", "--nodes has a key of its own: write `resources.nodes`"),
        ("slurm", "--cpus-per-task=2", "--cpus-per-task has a key of its own: write `resources.cpus`"),
        (
            "slurm",
            "--mem=1G",
            "--mem has a key of its own: write `resources.memory` in the task, or `memory_",
        ),
        ("slurm", "--mem-per-cpu=1G", "--mem-per-cpu has a key of its own"),
        ("slurm", "--cpus-per-t=2", "--cpus-per-t is short for --cpus-per-task, which has a key of its own"),
        ("slurm", "--ntasks=2", "--ntasks contradicts the script, which counts on one task on each node"),
        (
            "slurm",
            "--ntasks-per-node=8",
            "--ntasks-per-node contradicts the script, which counts on one task on each node; remove it, "
            "`launcher: torchrun` in the code starts a process for each GPU",
        ),
        ("slurm", "-C a100", "-C is short for --constraint, which has a key of its own: write `constraint`"),
        ("slurm", "-N2", "-N is short for --nodes, which has a key of its own: write `resources.nodes`"),
        ("slurm", "-n 8", "-n is short for --ntasks, which contradicts the script"),
        ("slurm", "-J x", "-J is short for --job-name, which is ddqjobs' own"),
        ("slurm", "--constraint a100", "--constraint has a key of its own: write `constraint`"),
        ("slurm", "--gres gpu:4", "--gres=gpu has a key of its own"),
        ("slurm", "--nice 100", "'--nice 100' is not one option in its long form, --name or --name=value"),
        ("slurm", "--nice=1 -p x", "slurm.extra[0] may not be '--nice=1 -p x': one option in its long form"),
        ("slurm", "-H", "'-H' is not one option in its long form"),
        ("slurm", "--job-name=x", "--job-name is ddqjobs' own"),
        ("slurm", "--error=x", "--error is ddqjobs' own"),
        ("bscc", "-q root.default", "-q has a key of its own: write `queue`"),
        ("bscc", "-x --job_type=cosched", "--job_type has a key of its own: write `job_type`"),
        ("bscc", "-T 60", "-T has a key of its own: write `resources.time` in the task, or `limits.time`"),
        ("bscc", "-R cpu=1", "-R has a key of its own: write `resources` in the task"),
        ("bscc", "-n x", "-n is ddqjobs' own: by it jobs are found and read"),
        ("donau", "--label x", "--label has a key of its own: write `label`"),
        ("donau", "-jr 3", "-jr has a key of its own: write `requeue`"),
    ],
)
def test_a_further_option_that_has_a_key_is_refused_with_its_line_and_the_key(
    tmp_path: Path, base: str, option: str, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        with_extra(tmp_path, base, option)
    (problem,) = refused.value.problems
    assert (Path(problem.file or "").name, problem.line) == ("site.yaml", 3)
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    ("base", "option"),
    [
        *(
            ("slurm", f"--{option}")
            for option in ("nice=9", "no-requeue", "export=NONE", "hint=nomultithread")
        ),
        *(("slurm", f"--{option}") for option in ("gres-flags=enforce-binding", "time-min=60", "wckey=a")),
        ("bscc", "-ep exclusive"),
        ("donau", "-l x"),  # an option of the other generation
    ],
)
def test_a_further_option_without_a_key_is_in_the_script(tmp_path: Path, base: str, option: str) -> None:
    mine = with_extra(tmp_path, base, option)
    job = Job(name="n", token="t", resources=Resources(gpus=8, sections=mine.sections), out="/out")
    assert option in backend(mine).directives(mine, job)


def test_other_generic_resources_go_with_the_gpus_in_one_option(tmp_path: Path) -> None:
    """Slurm reads the last --gres only."""
    mine = with_extra(tmp_path, "slurm", "--gres=lscratch:100")
    for gpus, value in ((8, "gpu:8,lscratch:100"), (0, "lscratch:100")):
        resources = Resources(gpus=gpus, sections=mine.sections)
        directives = backend(mine).directives(mine, Job(name="n", token="t", resources=resources, out="/out"))
        assert [option for option in directives if "gres" in option] == [f"--gres={value}"]
