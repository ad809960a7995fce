"""Digests: what decides a result changes its run's digest, in the part that says so; nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ddqjobs.planning.digest import (
    FORMAT,
    PARTS,
    Digester,
    changed,
    compared,
    format_of,
    parts,
    with_upstream,
)
from ddqjobs.planning.matrix import expand
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run

FILES = {
    "experiments/configs/a.py": "_base_ = ['../configs/base.py']\nhook = 'ddqjobs.detect.hooks.stop'\n",
    "experiments/configs/base.py": "lr = 1\n",
    "experiments/configs/newer.py": "with read_base():\n    from .more.base import *\n",
    "experiments/configs/more/base.py": "lr = 2\n",
    "experiments/configs/other.py": "",
    "experiments/configs/computed.py": "up = '../configs/'\n_base_ = [f'{up}base.py']\n",
    "experiments/configs/named.py": "_base_ = '{{ fileDirname }}/base.py'\n",
    "experiments/configs/lazy.py": "with read_base():\n    from .more import *\n",
    "experiments/configs/more/__init__.py": "lr = 4\n",
    "experiments/configs/plugin.py": "custom_imports = dict(imports=['configs.own.model'])\n",
    "experiments/configs/own/__init__.py": "",
    "experiments/configs/own/model.py": "from .part import FACTOR\nimport configs.own.far\n",
    "experiments/configs/own/part.py": "from ddqjobs.detect.hooks.stop import Hook\nFACTOR = 0.0\n",
    "experiments/configs/own/far.py": "",
    "experiments/configs/points.json": "{}",
    "ddqjobs/detect/__init__.py": "",
    "ddqjobs/detect/train.py": "from . import files\nfrom ddqjobs.detect.more import x\n",
    "ddqjobs/detect/files.py": "def f():\n    from .late import g\n",
    "ddqjobs/detect/late.py": "",
    "ddqjobs/detect/more.py": "",
    "ddqjobs/detect/hooks/__init__.py": "from . import common",
    "ddqjobs/detect/hooks/common.py": "",
    "ddqjobs/detect/hooks/stop.py": "",
    "ddqjobs/detect/hooks/option.py": "",
    "ddqjobs/detect/unused.py": "",
}
CONTENT: dict[str, Any] = {
    "name": "e",
    "implementations": {"new": "New"},
    "data": {"version": "1"},
    "codes": {
        "c": {
            "environment": "env",
            "seed_option": "seed",
            "commands": {
                "train": [
                    "{python}",
                    "-m",
                    "ddqjobs.detect.train",
                    "{config}",
                    "--points=configs/points.json",
                ],
                "test": ["test", "{config}"],
            },
        }
    },
    "models": {"m": {"implementations": {"new": {"code": "c", "config": "configs/a.py"}}}},
    "tasks": {
        "train": {
            "kind": "train",
            "implementation": "new",
            "config": "configs/a.py",
            "options": {"custom_imports.imports": "[ddqjobs.detect.hooks.option.Hook]"},
        },
        "test": {
            "kind": "test",
            "implementation": "new",
            "config": "configs/other.py",
            "inputs": {"checkpoint": "train.checkpoint"},
        },
    },
}


def digests(root: Path, content: dict[str, Any] = CONTENT, environment: str = "1" * 12) -> dict[str, str]:
    def below(folder: str) -> Any:
        return lambda relative: path if (path := root / folder / relative).is_file() else None

    experiment = msgspec.convert(content, Experiment)
    digester = Digester(below("experiments"), below(""), {"env": environment})
    return {run.name: run.digest for run in digester.digest_all(experiment, expand(experiment))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("experiments/configs/a.py", "config"),
        ("experiments/configs/base.py", "config"),
        ("experiments/configs/points.json", "config"),
        ("ddqjobs/detect/__init__.py", "code"),
        ("ddqjobs/detect/train.py", "code"),
        ("ddqjobs/detect/files.py", "code"),
        ("ddqjobs/detect/late.py", "code"),
        ("ddqjobs/detect/more.py", "code"),
        ("ddqjobs/detect/hooks/stop.py", "code"),
        ("ddqjobs/detect/hooks/__init__.py", "code"),
        ("ddqjobs/detect/hooks/common.py", "code"),
        ("ddqjobs/detect/hooks/option.py", "code"),
        ("experiments/configs/other.py", ""),
        ("experiments/configs/more/base.py", ""),
        ("ddqjobs/detect/unused.py", ""),
    ],
)
def test_a_file_counts_for_the_runs_that_use_it_and_for_what_comes_after_them(
    root: Path, name: str, part: str
) -> None:
    before = digests(root)
    (root / name).write_text(FILES[name] + "\nchanged = 1\n")
    after = digests(root)
    assert changed(before["train.m"], after["train.m"]) == ((part,) if part else ())
    expected = ("upstream",) if part else (("config",) if name.endswith("other.py") else ())
    assert changed(before["test.m"], after["test.m"]) == expected


def test_comments_and_docstrings_do_not_count(root: Path) -> None:
    before = digests(root)
    for name, text in FILES.items():
        if name.endswith(".py"):
            (root / name).write_text(
                f'"""Like ddqjobs.detect.unused."""\n\n{text}\n# ddqjobs.detect.unused\n'
            )
    assert digests(root) == before


def test_the_bases_of_a_configuration_of_the_newer_style_count(root: Path) -> None:
    content = msgspec.json.decode(msgspec.json.encode(CONTENT))
    content["tasks"]["test"]["config"] = "configs/newer.py"
    before = digests(root, content)
    (root / "experiments/configs/more/base.py").write_text("lr = 3\n")
    assert changed(before["test.m"], digests(root, content)["test.m"]) == ("config",)


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        (("data", "version"), "2", ("data", "upstream")),
        (("tasks", "train", "options"), {"lr": 1}, ("upstream",)),
        (("tasks", "test", "options"), {"lr": 1}, ("definition",)),
        (("tasks", "test", "resources"), {"gpus": 2}, ("definition",)),
        (("tasks", "test", "resources"), {"time": "2d", "memory": "9GB"}, ()),
        (("tasks", "test", "title"), "new", ()),
        (("tasks", "test", "hours"), 3, ()),
        (("tasks", "test", "optional"), True, ()),
        (("title",), "new", ()),
    ],
)
def test_what_the_experiment_says_counts_if_it_decides_the_result(
    root: Path, path: tuple[str, ...], value: object, parts: tuple[str, ...]
) -> None:
    content = msgspec.json.decode(msgspec.json.encode(CONTENT))
    at = content
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert changed(digests(root)["test.m"], digests(root, content)["test.m"]) == parts


def test_the_environment_counts_by_its_identity(root: Path) -> None:
    assert changed(digests(root)["train.m"], digests(root, environment="2" * 12)["train.m"]) == (
        "environment",
    )


def test_a_digest_has_its_formats_number_and_a_part_of_twelve_digits_for_each_thing(root: Path) -> None:
    for digest in digests(root).values():
        assert digest.startswith(f"{FORMAT}:")
        assert [(name, len(part)) for name, part in parts(digest)] == [(name, 12) for name in PARTS]


def test_configurations_that_include_each_other_end(root: Path) -> None:
    (root / "experiments/configs/base.py").write_text("_base_ = 'a.py'\n")
    assert digests(root) == digests(root)


@pytest.mark.parametrize(
    "text", ["_base_ = [", "_base_ = f()", "_base_ = 'gone.py'", "_base_ = 'mmdet::x.py'", "\0"]
)
def test_a_configuration_that_cannot_be_followed_counts_by_itself(root: Path, text: str) -> None:
    before = digests(root)
    (root / "experiments/configs/a.py").write_text(text)
    assert changed(before["train.m"], digests(root)["train.m"])[0] == "config"


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("2:a-b-c-d-e-f", "2:a-b-c-d-e-f", ()),
        ("2:a-b-c-d-e-f", "2:a-x-c-d-e-y", ("config", "upstream")),
        ("2:torn", "2:a-b-c-d-e-f", PARTS),
        ("2:a-b-c-d-e-f-g", "2:a-b-c-d-e-f", PARTS),
        ("", "", ()),
        # Of another format, what was made by the same rule.
        ("a-b-c-d-e-f", "2:a-x-y-d-e-z", ()),
        ("a-b-c-d-e-f", "2:x-b-c-y-z-f", ("definition", "environment", "data")),
        ("2:a-b-c-d-e-f", "3:u-v-w-x-y-z", ()),
    ],
)
def test_two_digests_say_what_changed(old: str, new: str, parts: tuple[str, ...]) -> None:
    assert changed(old, new) == parts


def test_the_first_format_had_no_number() -> None:
    assert [format_of(digest) for digest in ("a-b-c-d-e-f", "2:a-b-c-d-e-f", "13:a", "")] == [1, 2, 13, 1]
    assert compared("a-b-c-d-e-f", "2:a-b-c-d-e-f") == ("definition", "environment", "data")


def test_a_run_on_other_upstream_results_differs_in_that_part_only(root: Path) -> None:
    experiment = msgspec.convert(CONTENT, Experiment)
    train, test = (msgspec.structs.replace(r, digest=digests(root)[r.name]) for r in expand(experiment))
    assert with_upstream(test, {train.name: train.digest}) == test
    other: Run = with_upstream(test, {train.name: "another"})
    assert changed(test.digest, other.digest) == ("upstream",)


@pytest.mark.parametrize(
    ("config", "name", "part"),
    [
        ("configs/computed.py", "experiments/configs/base.py", "config"),
        ("configs/named.py", "experiments/configs/base.py", "config"),
        ("configs/lazy.py", "experiments/configs/more/__init__.py", "config"),
        ("configs/plugin.py", "experiments/configs/own/__init__.py", "config"),
        ("configs/plugin.py", "experiments/configs/own/model.py", "config"),
        ("configs/plugin.py", "experiments/configs/own/part.py", "config"),
        ("configs/plugin.py", "experiments/configs/own/far.py", "config"),
        ("configs/plugin.py", "ddqjobs/detect/hooks/common.py", "code"),
    ],
)
def test_what_a_configuration_builds_on_counts(root: Path, config: str, name: str, part: str) -> None:
    content = with_config(config)
    before = digests(root, content)["test.m"]
    (root / name).write_text("changed = 1")
    assert changed(before, digests(root, content)["test.m"])[0] == part


def test_a_module_that_an_option_names_counts(root: Path) -> None:
    content = with_config("configs/other.py", {"custom_imports.imports": "[configs.own.part]"})
    before = digests(root, content)["test.m"]
    (root / "experiments/configs/own/part.py").write_text("FACTOR = 1.0\n")
    assert changed(before, digests(root, content)["test.m"])[0] == "config"


@pytest.mark.parametrize(
    ("word", "counts"), [("{code}/configs/base.py", True), ("/tree/configs/base.py", False)]
)
def test_a_configuration_that_a_command_names_in_the_snapshot_counts(
    root: Path, word: str, counts: bool
) -> None:
    content = with_config("configs/other.py")
    content["codes"]["c"]["commands"]["test"].insert(1, word)
    before = digests(root, content)["test.m"]
    (root / "experiments/configs/base.py").write_text("lr = 3\n")
    assert ("config" in changed(before, digests(root, content)["test.m"])) == counts


def with_config(config: str, options: dict[str, str] | None = None) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(CONTENT))
    content["codes"]["c"]["commands"]["test"] = ["test", "{config}", "{options}"]
    content["tasks"]["test"].update(config=config, options=options or {})
    return content


def test_a_base_that_no_digest_has_is_named(root: Path) -> None:
    bases = ["../configs/base.py", "mmdet::base.py", "/elsewhere/a.py", "gone.py", "../../a.py"]
    (root / "experiments/configs/a.py").write_text(f"_base_ = {bases}\n")
    experiment = msgspec.convert(CONTENT, Experiment)

    def config(relative: str) -> Path | None:
        return path if (path := root / "experiments" / relative).is_file() else None

    digester = Digester(config, lambda _: None, {})
    named = digester.unfollowed(expand(experiment), lambda _run, _outside: True)
    assert named == tuple(
        f"configs/a.py, _base_ names {base}, which is not in the project" for base in bases[2:]
    )


def test_a_variable_and_a_checkpoint_that_no_digest_has_are_named(root: Path) -> None:
    (root / "experiments/configs/lr.py").write_text("lr = '{{$LR:0.1}}'\n")
    content = with_config("configs/lr.py", {"load_from": "/w/a.pth"})

    def config(relative: str) -> Path | None:
        return path if (path := root / "experiments" / relative).is_file() else None

    def named() -> tuple[str, ...]:
        digester = Digester(config, lambda _: None, {})
        return digester.unfollowed(expand(msgspec.convert(content, Experiment)), lambda _run, _outside: True)

    option = "test, option load_from names /w/a.pth"
    assert named() == ("configs/lr.py, line 1: reads the variable LR", option)
    content["codes"]["c"]["variables"] = {"LR": "0.2"}  # which the digest has
    assert named() == (option,)
