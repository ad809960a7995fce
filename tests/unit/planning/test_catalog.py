"""Experiments and sites by name or by file, from the project first and then from what ships."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.base.errors import InputError, MissingError
from ddqjobs.planning.catalog import Catalog, find_module
from ddqjobs.planning.lookup import Lookup, is_file_name
from tests.support.trivial import EXPERIMENT, TrivialProject, task


def test_a_project_offers_its_own_experiments_and_those_that_ship(trivial: TrivialProject) -> None:
    catalog = Catalog(trivial.root)
    assert {"ddq", "mini", "nano", EXPERIMENT} <= catalog.experiments().keys()
    assert set(catalog.own_experiments()) == {EXPERIMENT}
    assert {"local", "slurm", "bscc"} <= catalog.sites().keys()
    assert {"mini-new", "mini-legacy"} <= catalog.environments().keys()


def test_the_only_experiment_of_a_project_needs_no_name(trivial: TrivialProject) -> None:
    catalog = Catalog(trivial.root)
    assert catalog.find(None) == trivial.root / "experiments" / f"{EXPERIMENT}.yaml"
    trivial.write("experiments/other.yaml", {"base": EXPERIMENT, "name": "other"})
    with pytest.raises(MissingError, match="name an experiment: other, trivial"):
        catalog.find(None)


def test_an_unknown_name_is_refused_with_the_nearest_one(trivial: TrivialProject) -> None:
    catalog = Catalog(trivial.root)
    with pytest.raises(MissingError, match="unknown experiment 'trivail'; did you mean 'trivial'"):
        catalog.load("trivail")
    with pytest.raises(MissingError, match="unknown site 'locla'; did you mean 'local'"):
        catalog.site("locla")
    with pytest.raises(MissingError, match="no such file"):
        catalog.load("./gone.yaml")


def test_an_experiment_may_be_a_file_anywhere(trivial: TrivialProject, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.yaml"
    (trivial.root / "experiments" / f"{EXPERIMENT}.yaml").rename(path)
    assert [r.name for r in Catalog(trivial.root).load(str(path)).runs] == ["first", "second"]


def test_runs_are_named_alike_where_nothing_but_types_is_checked(trivial: TrivialProject) -> None:
    sections = {"slurm": {"qos": "high"}}
    trivial.write("experiments/mine.yaml", {"base": EXPERIMENT, "name": "mine", "tasks": {"third": task()}})
    trivial.write("experiments/other.yaml", {"base": "./mine.yaml", "name": "other", **sections})
    for name in ("mine", "other", "ddq", "mini"):
        loaded = Catalog(trivial.root).load(name)
        runs, files = Lookup(trivial.root).runs(name)
        assert [run.name for run in runs] == [run.name for run in loaded.runs]
        assert files[-1] == loaded.path
    trivial.write("experiments/other.yaml", {"base": "./mine.yaml", "name": 1.5, **sections})
    with pytest.raises(InputError, match="name must be text"):
        Lookup(trivial.root).runs("other")


def test_a_file_that_inherits_another_changes_only_what_it_says(trivial: TrivialProject) -> None:
    trivial.write("experiments/mine.yaml", {"base": EXPERIMENT, "name": "mine", "tasks": {"third": task()}})
    loaded = Catalog(trivial.root).load("mine")
    assert loaded.experiment.name == "mine"
    assert [r.name for r in loaded.runs] == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        ("variants", "defualt", "no variant 'defualt'; did you mean 'default'? a new one needs a task that"),
        ("codes", "tol", "no code 'tol'; did you mean 'tool'? a new one needs a model or a task that names"),
        ("phases", "frist", "no phase 'frist'; did you mean 'first'? a new one needs a task that belongs to"),
        ("implementations", "nwe", "no implementation 'nwe'; did you mean 'new'? a new one needs a model"),
    ],
)
def test_a_misspelt_change_of_what_is_inherited_is_not_taken_for_something_new(
    trivial: TrivialProject, section: str, name: str, message: str
) -> None:
    parts: dict[str, Any] = {
        "variants": {"default": {}},
        "codes": {"tool": {}},
        "phases": {"first": {}},
        "implementations": {"new": "New"},
    }
    trivial.write("experiments/parts.yaml", {"base": EXPERIMENT, "name": "parts", **parts})
    changed = {section: {name: "Newest" if section == "implementations" else {"title": "changed"}}}
    trivial.write("experiments/mine.yaml", {"base": "parts", "name": "mine", **changed})
    with pytest.raises(InputError) as error:
        Catalog(trivial.root).load("mine")
    (problem,) = error.value.problems
    assert problem.file.endswith("mine.yaml")
    assert problem.line > 1
    assert message in problem.message


def test_a_new_variant_that_a_task_uses_may_have_nearly_an_inherited_name(trivial: TrivialProject) -> None:
    trivial.write("experiments/parts.yaml", {"base": EXPERIMENT, "name": "parts", "variants": {"fast": {}}})
    tasks = {"first": {"variants": ["fast2"]}}
    trivial.write(
        "experiments/mine.yaml",
        {"base": "parts", "name": "mine", "variants": {"fast2": {}}, "tasks": tasks},
    )
    assert [r.variant for r in Catalog(trivial.root).load("mine").runs if r.task == "first"] == ["fast2"]


def test_a_new_variant_that_no_task_runs_is_refused(trivial: TrivialProject) -> None:
    trivial.write("experiments/parts.yaml", {"base": EXPERIMENT, "name": "parts", "variants": {"fast": {}}})
    sweep = {"lr-1e-4": {"options": {"lr": 1e-4}}}
    trivial.write("experiments/mine.yaml", {"base": "parts", "name": "mine", "variants": sweep})
    with pytest.raises(InputError) as error:
        Catalog(trivial.root).load("mine")
    (problem,) = error.value.problems  # that nobody uses `fast` is the base's own matter
    assert problem.file.endswith("mine.yaml")
    assert problem.message == "no task runs variant 'lr-1e-4'; name it in a task's `variants`, or remove it"


def test_a_site_that_overrides_a_shipped_one_may_inherit_it(trivial: TrivialProject) -> None:
    trivial.write("templates/local/site.yaml", {"base": "local", "grace": "9s"})
    site = Catalog(trivial.root).site("local")
    assert (site.name, site.scheduler, site.grace) == ("local", "local", "9s")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base: slurm\nname: my-cluster\n", ":2: name must be 'mycluster', like its folder, by which --site"),
        ("base: slurm\n", ":1: the name 'slurm' is that of its base; add `name: mycluster`"),
    ],
)
def test_a_site_whose_name_is_not_that_of_its_folder_is_refused(
    trivial: TrivialProject, text: str, expected: str
) -> None:
    path = trivial.root / "templates/mycluster/site.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match=f"templates/mycluster/site.yaml{re.escape(expected)}"):
        Catalog(trivial.root).site("mycluster")


def test_a_site_that_is_given_as_a_file_elsewhere_has_any_name(trivial: TrivialProject) -> None:
    (trivial.root / "lab.yaml").write_text("base: slurm\nname: my-cluster\n")
    assert Catalog(trivial.root).site(str(trivial.root / "lab.yaml")).name == "my-cluster"


def test_what_is_not_the_path_of_a_script_under_activate(trivial: TrivialProject) -> None:
    example = "write for example ~/miniconda3/envs/det/bin/activate"
    python = "is a Python, not a script that a shell reads; name"
    wrong = {
        "conda activate det3": f"'conda activate det3' is not the path of a script; {example}",
        "source ~/venv/bin/activate": f"'source ~/venv/bin/activate' is not the path of a script; {example}",
        "det3": f"'det3' is not the path of a script; {example}",
        "": f"'' is not the path of a script; {example}",
        "~/det/bin/python": f"~/det/bin/python {python} ~/det/bin/activate",
        "/det/bin/python3.11": f"/det/bin/python3.11 {python} /det/bin/activate",
    }
    for text, message in wrong.items():
        path = trivial.root / "templates" / "here" / "site.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"name: here\nscheduler: local\nactivate:\n  det3: {text!r}\n")
        with pytest.raises(InputError) as raised:
            Catalog(trivial.root).site("here")
        assert str(raised.value).endswith(f"site.yaml:4: {message}")
    for text in ("$DET3", "my envs/det/bin/activate", "~/source files/activate", "/opt/enter.sh"):
        path.write_text(f"name: here\nscheduler: local\nactivate:\n  det3: {text!r}\n")
        assert Catalog(trivial.root).site("here").activate == {"det3": text}


def test_durations_of_a_site_are_checked_with_their_lines(trivial: TrivialProject) -> None:
    trivial.write("templates/local/site.yaml", {"base": "local", "grace": "soon", "warning": "1 m"})
    with pytest.raises(InputError) as error:
        Catalog(trivial.root).site("local")
    assert len(error.value.problems) == 2
    assert all(problem.line for problem in error.value.problems)


def test_a_site_without_a_scheduler_or_units_is_told_what_to_write(trivial: TrivialProject) -> None:
    (trivial.root / "templates/mine").mkdir()
    (trivial.root / "templates/mine/site.yaml").write_text("name: mine\nhang: 30\nlimits: {time: 7}\n")
    with pytest.raises(InputError) as error:
        Catalog(trivial.root).site("mine")
    assert [f"{problem.line}: {problem.message}" for problem in error.value.problems] == [
        "1: missing key 'scheduler', or `base: slurm`, which has it",
        "2: hang has no unit: 30; write 90s, 45m, 24h or 2d",
        "3: limits.time has no unit: 7; write 90s, 45m, 24h or 2d",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memory_mb_per_gpu: 500GB", "must be a whole number, not text '500GB'; write for example 37500"),
        (
            "modules: cuda/12.1",
            "must be a list, not text 'cuda/12.1'; write for example [gcc/9.3.0, cuda/11.1.0]",
        ),
        ("limits: 2d", "must be a mapping (key: value), not text '2d'; write for example {array_size: 1000}"),
        ("slurm: {exclusive: please}", "must be true or false, not text 'please'"),
    ],
)
def test_a_value_of_another_type_is_answered_with_an_example(
    trivial: TrivialProject, text: str, message: str
) -> None:
    path = trivial.root / "templates/mine/site.yaml"
    path.parent.mkdir()
    path.write_text(f"name: mine\nbase: slurm\n{text}\n")
    with pytest.raises(InputError) as refused:
        Catalog(trivial.root).site("mine")
    (problem,) = refused.value.problems
    assert problem.message.partition(" ")[2] == message


def test_a_number_in_a_task_is_asked_for_its_unit(trivial: TrivialProject) -> None:
    trivial.tasks({"a": {**task(), "resources": {"time": 12, "memory": 300}}})
    with pytest.raises(InputError) as error:
        trivial.open().plan(EXPERIMENT)
    messages = [problem.message for problem in error.value.problems]
    assert messages == [
        "tasks.a.resources.time has no unit: 12; write 90s, 45m, 24h or 2d",
        "tasks.a.resources.memory has no unit: 300; write 500MB, 300GB or 16GiB",
    ]


def test_runs_come_with_digests_that_do_not_depend_on_where_the_project_lies(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b c"):
        project = TrivialProject(tmp_path / name)
        project.trace = Path("trace")
        project.tasks({"first": task()})
        digests.append([r.digest for r in Catalog(project.root).load(EXPERIMENT).runs])
    assert digests[0] == digests[1]
    assert all(digests[0])


@pytest.mark.parametrize(
    ("text", "expected"), [("ddq", False), ("a.yaml", True), ("a.yml", True), ("./a", True), ("a.b", False)]
)
def test_names_and_files_are_told_apart(text: str, expected: bool) -> None:
    assert is_file_name(text) is expected


def test_task_code_is_found_by_its_path_in_the_package() -> None:
    path = find_module("ddqjobs/detect/product.py")
    assert path is not None
    assert path.is_file()
    assert find_module("ddqjobs/detect/gone.py") is None
