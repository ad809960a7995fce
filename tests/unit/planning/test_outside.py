"""Modules that no digest has are found: those that neither the project, nor the lock, nor the code's tree
holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ddqjobs.planning.outside import known, of_words, outside


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("custom_imports = dict(imports=['a.b', 'configs.mine.x', 'ddqjobs.detect.models'])", ["a.b"]),
        ("custom_imports = {'imports': ['a.b'], 'allow_failed_imports': False}", ["a.b"]),
        ("custom_imports = dict(imports=[*_base_.get('custom_imports', {}).get('imports', []), 'a'])", ["a"]),
        ("custom_imports['imports'] += ['a.b']", ["a.b"]),
        ("custom_imports: dict = dict(imports=['a.b'])", ["a.b"]),
        ("custom_imports = dict(imports='a.b')", ["a.b"]),
        ("names = ['a']\ncustom_imports = dict(imports=names)", ["what is computed"]),
        ("custom_imports = dict(imports=['my' + 'mod'])", ["what is computed", "mod", "my"]),
        ("custom_imports = dict(imports=[f'{x}.y'])", ["what is computed"]),
        ("import json\nfrom . import near\nfrom far.away import x", ["far.away"]),
        ("def build():\n    import far.away", ["far.away"]),
    ],
)
def test_modules_that_a_file_imports_or_names(text: str, modules: list[str]) -> None:
    places = [o.place for o in outside(ast.parse(text))]
    assert [place.partition(": ")[2].partition(" ")[2].removeprefix("names ") for place in places] == modules


def test_modules_that_a_command_imports() -> None:
    command = "-m x --imports projects configs.a --images 0 +custom_imports.imports=[one.two,'three']"
    assert [o.module for o in of_words(command.split())] == ["projects", "one.two", "three"]


def test_what_lock_environment_and_tree_have(tmp_path: Path) -> None:
    (tmp_path / "lib" / "python3.11" / "site-packages" / "odd").mkdir(parents=True)
    (tmp_path / "tree" / "projects").mkdir(parents=True)

    def has(module: str) -> bool:
        packages = {"mmcv-lite": "2.1.0", "opencv-python-headless": "4", "mmdet": "3.3.0"}
        return known(module, packages=packages, folder=tmp_path, tree=tmp_path / "tree")

    assert all(map(has, ("mmcv.ops", "cv2", "mmdet.models", "odd.part", "projects.models")))
    assert not any(map(has, ("mm", "mmdet3d.models", "mymodels.head", "")))
