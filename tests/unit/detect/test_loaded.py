"""Modules that an attempt's programs loaded: number, origin, and whether they are the code tree's own."""

from __future__ import annotations

import os
from pathlib import Path

from ddqjobs.detect import loaded


def record(attempt: Path, *paths: Path) -> None:
    attempt.mkdir(exist_ok=True)
    (attempt / f"loaded.{os.getpid()}.txt").write_text("".join(f"{path}\n" for path in paths))


def package(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    return folder / "__init__.py"


def test_an_installed_copy_of_the_tree_s_package_is_named(tmp_path: Path) -> None:
    own = package(tmp_path / "tree" / "mmdet")
    installed = package(tmp_path / "env/lib/python3.11/site-packages" / "mmdet")
    other = package(tmp_path / "env/lib/python3.11/site-packages" / "torch")
    none: dict[str, object] = {"foreign": [], "instead": [], "hidden": []}
    known, tree = [str(tmp_path / "env"), str(tmp_path / "tree")], str(tmp_path / "tree")
    record(tmp_path / "1", other, own)
    assert loaded.collect(tmp_path / "1", known, tree) == {"files": 2, **none}
    record(tmp_path / "2", other, installed)
    assert loaded.collect(tmp_path / "2", known, tree) == {"files": 2, **none, "hidden": ["mmdet"]}
    record(tmp_path / "3", installed)
    assert loaded.collect(tmp_path / "3", known) == {"files": 1, **none}


def test_a_copy_of_what_the_environment_has_is_named(tmp_path: Path) -> None:
    package(tmp_path / "env/lib/python3.11/site-packages" / "torch")
    other, new = (package(tmp_path / "usr/lib/python3/dist-packages" / name) for name in ("torch", "mine"))
    record(tmp_path / "1", other, new)
    origins = loaded.collect(tmp_path / "1", [str(tmp_path / "env")])
    assert (origins["foreign"], origins["instead"]) == ([str(new), str(other)], [str(other)])
    package(tmp_path / "env/lib/python3.11/site-packages" / "utils")
    own = package(package(tmp_path / "project" / "mine").parent / "utils")
    record(tmp_path / "2", own)
    assert loaded.collect(tmp_path / "2", [str(tmp_path / "env")])["instead"] == []


def test_what_is_installed_by_a_link_to_the_tree_is_the_tree_s(tmp_path: Path) -> None:
    package(tmp_path / "tree" / "mmdet")
    packages = tmp_path / "env/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (packages / "mmdet").symlink_to(tmp_path / "tree" / "mmdet")
    record(tmp_path / "1", packages / "mmdet" / "__init__.py")
    assert loaded.collect(tmp_path / "1", [str(tmp_path)], str(tmp_path / "tree"))["hidden"] == []
