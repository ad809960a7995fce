"""Shipped files, and how a project overrides them one by one."""

from __future__ import annotations

from pathlib import Path

from ddqjobs.spec.shipped import Files, shipped_root


def test_experiments_templates_and_environments_ship() -> None:
    assert all((shipped_root() / kind).is_dir() for kind in ("experiments", "templates", "envs"))


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_of_the_project_goes_before_the_shipped_one(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.find("templates/base.sh.j2") == shipped_root() / "templates/base.sh.j2"
    own = write(tmp_path / "templates/base.sh.j2")
    assert files.find("templates/base.sh.j2") == own
    assert files.find("templates/gone.j2") is None


def test_names_are_stems_or_the_folders_of_sites_and_environments(tmp_path: Path) -> None:
    own = write(tmp_path / "experiments/mini.yaml")
    mine = write(tmp_path / "templates/mine/site.yaml")
    files = Files(tmp_path)
    assert files.names("experiments/*.yaml")["mini"] == own
    assert files.names("experiments/*.yaml")["ddq"] == shipped_root() / "experiments/ddq.yaml"
    assert files.names("templates/*/site.yaml")["mine"] == mine
    assert list(files.names("envs/*/env.yaml")) == sorted(files.names("envs/*/env.yaml"))


def test_a_tree_has_each_file_once_the_projects_own_first(tmp_path: Path) -> None:
    name = "mini/ddq-detr_r18_shapes.py"
    own = write(tmp_path / "experiments/configs" / name, "mine")
    write(tmp_path / "experiments/configs/__pycache__/x.pyc")
    tree = list(Files(tmp_path).tree("experiments/configs"))
    assert dict(tree)[name] == own
    assert len(dict(tree)) == len(tree)
    assert not [path for relative, path in tree if "__pycache__" in relative]
    assert tree == sorted(tree)


def test_a_project_that_is_the_checkout_itself_is_looked_through_once() -> None:
    assert Files(shipped_root()).roots == (shipped_root(),)
