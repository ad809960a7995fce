"""The keys of files: each is described, each example is one, and the reference pages say so."""

from __future__ import annotations

import re
import typing

import msgspec
import pytest
from typer.testing import CliRunner

from ddqjobs.cli.commands import app
from ddqjobs.cli.schema import document
from ddqjobs.planning import sections
from ddqjobs.report.document import Report
from ddqjobs.spec import descriptions, keys
from ddqjobs.spec.environment import Declaration
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.site import Site
from tests.support.markdown import reference
from tests.support.paths import ROOT

KINDS = ("experiment", "site", "environment")


def types() -> list[type[msgspec.Struct]]:
    """Return the types of all files and their sections, each once."""
    of_schedulers = (*sections.of_sites().values(), *sections.of_experiments().values())
    roots: list[type[msgspec.Struct]] = [Experiment, Site, Declaration, Report, *of_schedulers]
    return [*dict.fromkeys(struct for root in roots for struct in descriptions.structs(root))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_described_with_an_example(kind: str) -> None:
    all_keys = keys.of(document(kind))
    assert len(all_keys) > 30
    assert [key.path for key in all_keys if not key.text] == []
    without = {key.path for key in all_keys if not key.example}
    assert without <= {"donau", "local", "donau.dialect"}


def test_every_key_of_a_report_is_described_with_an_example() -> None:
    all_keys = keys.of(document("report"))
    assert len(all_keys) > 300
    assert [key.path for key in all_keys if not key.text] == []
    # A key that holds other keys is explained by them.
    assert [key.path for key in all_keys if not key.example and not key.form.endswith("keys")] == []


def test_every_example_is_a_value_of_its_key() -> None:
    for kind in types():
        forms = typing.get_type_hints(kind, include_extras=True)
        for name, described in descriptions.of(kind).items():
            if described.example is not None:
                msgspec.convert(described.example, forms[name])


@pytest.mark.parametrize("kind", [*KINDS, "report"])
def test_the_reference_page_is_that_of_the_types(kind: str) -> None:
    name = reference().PAGES.get(kind, kind)
    page = (ROOT / f"docs/reference/{name}.md").read_text(encoding="utf-8")
    assert page == reference().page(kind), "run tools/reference.py"


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("time", ["tasks.NAME.resources.time", "resources.time"]),
        ("resources.time", ["resources.time"]),
        ("tasks.p3-train.kind", ["tasks.NAME.kind"]),
        ("models.implementations.config", ["models.NAME.implementations.NAME.config"]),
        ("models.NAME.implementations.new.config", ["models.NAME.implementations.NAME.config"]),
        ("models.implementations.hours", ["models.NAME.implementations.NAME.hours"]),
        ("implementations.checkpoint", ["models.NAME.implementations.NAME.checkpoint"]),
        ("models.dino.hours", ["models.NAME.hours"]),
        ("models.NAME", ["models"]),
        ("datasets.coco.splits.val", ["datasets.NAME.splits"]),
        ("variants.big.gpus", ["variants.NAME.gpus"]),
        ("big.gpus", []),  # of what?
        ("slurm.gpus", []),
        ("models.implementations.new.config.x", []),
        ("nothing", []),
    ],
)
def test_a_key_is_found_by_its_path_or_by_its_end(query: str, paths: list[str]) -> None:
    assert [key.path for key in keys.chosen(keys.of(document("experiment")), query)] == paths


def test_what_a_key_of_its_own_file_requires_is_said() -> None:
    required = {key.path for key in keys.of(document("experiment")) if key.required}
    assert {"name", "tasks.NAME.kind", "models.NAME.implementations"} <= required
    assert "title" not in required


@pytest.mark.parametrize(
    ("kind", "key", "others"),
    [
        ("experiment", "notify", ["site", "user"]),
        ("experiment", "notify.phone.url", ["site", "user"]),
        ("site", "seeds", ["experiment"]),
        ("user", "modules", ["site", "environment"]),
    ],
)
def test_a_key_of_other_files_is_named_with_the_command_that_explains_it(
    kind: str, key: str, others: list[str]
) -> None:
    refusal = CliRunner().invoke(app, ["schema", kind, key])
    assert refusal.exit_code == 2
    assert f"{kind} files have no key {key}; {' and '.join(others)} files have it" in refusal.stderr
    assert re.findall(r"`ddqjobs schema (\w+) \S+`", refusal.stderr) == others
    for other in others:
        assert CliRunner().invoke(app, ["schema", other, key]).exit_code == 0


def test_no_other_file_is_named_for_a_key_that_it_has_under_another_path() -> None:
    """Experiments have `variants.NAME.gpus`, which `slurm.gpus` is not."""
    refusal = CliRunner().invoke(app, ["schema", "site", "slurm.gpus"])
    assert (refusal.exit_code, "experiment" in refusal.stderr) == (2, False)


def test_a_misspelt_key_gets_the_nearest_and_an_invented_one_nothing() -> None:
    assert (
        "have no key modls; did you mean 'models'?"
        in CliRunner().invoke(app, ["schema", "experiment", "modls"]).stderr
    )
    assert CliRunner().invoke(app, ["schema", "site", "xyzzy"]).stderr.endswith("have no key xyzzy\n")
