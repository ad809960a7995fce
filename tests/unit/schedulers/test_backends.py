"""Backends: what each can express, and that nobody else asks which scheduler a site has."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

import ddqjobs
from ddqjobs.planning.catalog import Catalog
from ddqjobs.schedulers.registry import BACKENDS, capabilities
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
