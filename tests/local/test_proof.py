"""Proofs of an attempt before its work begins, in an environment with a lock on the local site."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddqjobs.environments import environment
from ddqjobs.spec.shipped import Files
from tests.support import environments
from tests.support.cli import Place, opened

# Prints where the lock's only package comes from.
EXPERIMENT = """
name: tiny
implementations: {}
models: {}
codes:
  shell: {path: ., environment: tiny}
tasks:
  look:
    kind: smoke
    once: true
    code: shell
    products: {out: out.txt}
    command: [bash, -c, 'python -c "import tinypkg; print(tinypkg.__file__)" > "$DDQJOBS_WORK_DIR/out.txt"']
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A project whose run needs the environment `tiny`, which is built; and `poison`, a folder beside it."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison" / "tinypkg.py").write_text("answer = 0\n")
    with opened(tmp_path / "project", EXPERIMENT) as project:
        monkeypatch.setenv("UV_FIND_LINKS", str(environments.Place(project.root).wheels))
        monkeypatch.setenv("UV_NO_INDEX", "1")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        write_site(project)
        assert project.invoke("env", "build", "tiny").code == 0
        yield project


def write_site(place: Place, **keys: Any) -> None:
    site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable, **keys}
    place.write("templates/local/site.yaml", site)


def packages(place: Place) -> Path:
    """Return the environment's folder of packages."""
    where = environment.location(place.root / ".environments", environment.load("tiny", Files(place.root)))
    return next((where / "lib").glob("python*/site-packages")).resolve()


def submit(place: Place) -> tuple[str, dict[str, Any]]:
    """Run it to its end: how it ended in words, and what was recorded."""
    place.invoke("submit", "tiny", "--wait")
    planned = place.invoke("plan", "tiny", "--json").json["runs"][0]
    last = place.root / "results/tiny/runs/look/attempts" / str(place.attempts("look"))
    return f"{planned['status']}: {planned['reason']}", json.loads((last / "proof.json").read_text())


def test_a_good_start_is_recorded(place: Place) -> None:
    status, record = submit(place)
    assert status.startswith("done: ")
    assert record["locked"] is True
    assert record["problem"] == ""
    ((where, versions),) = record["packages"].items()
    assert Path(where).resolve() == packages(place)
    assert versions == {"tinypkg": "1.0"}
    assert record["python"].startswith(environments.PYTHON)
    assert record["machine"]["processor"]
    assert record["machine"]["threads"] == "1"
    assert record["variables"]["OMP_NUM_THREADS"] == "1"
    assert (place.root / "results/tiny/code" / record["code"]).is_dir()
    assert record["seconds"] < 2
    ran = place.invoke("status", "tiny", "--json").json["runs"][0]["ran"]
    assert (ran["environment"], ran["locked"], ran["python"]) == ("tiny", True, record["python"])
    assert ran["processor"] == record["machine"]["processor"]
    report = place.invoke("report", "tiny").out
    assert f"ran with Python {record['python']}; {record['machine']['processor']}" in report


def test_what_a_task_loads_from_elsewhere_is_reported(place: Place, tmp_path: Path) -> None:
    path = place.root / "experiments" / "tiny.yaml"
    text = path.read_text()
    assert submit(place)[0].startswith("done: ")
    attempts = place.root / "results/tiny/runs/look/attempts"
    files = [Path(line).resolve() for line in (attempts / "1" / "loaded.txt").read_text().splitlines()]
    assert packages(place) / "tinypkg.py" in files
    assert place.invoke("status", "tiny", "--json").json["runs"][0]["ran"].get("foreign") is None
    # Some packages put objects among the modules that have no file, only a name for one.
    change = f"import sys; sys.path.insert(0, ''{tmp_path}/poison''); import tinypkg; "
    change += (
        "sys.modules[''tiny.ops''] = type(sys)(''_''); sys.modules[''tiny.ops''].__file__ = ''_ops.py'';"
    )
    path.write_text(text.replace("import tinypkg;", change))
    place.invoke("submit", "tiny", "--stale", "--wait")
    assert place.attempts("look") == 2
    ran = place.invoke("status", "tiny", "--json").json["runs"][0]["ran"]
    assert ran["foreign"] == ran["instead"] == [f"{tmp_path}/poison/tinypkg.py"]
    report = place.invoke("report", "tiny").out
    assert f"loaded from outside of its environment and code: {tmp_path}/poison" in report


def test_what_a_rank_above_the_first_loads_is_recorded_too(place: Place, tmp_path: Path) -> None:
    path = place.root / "experiments" / "tiny.yaml"
    change = f"import sys; sys.path.insert(0, ''{tmp_path}/poison''); import tinypkg;"
    text = path.read_text().replace("import tinypkg;", change)
    path.write_text(text.replace("[bash, -c, 'python", "[bash, -c, 'RANK=1 python"))
    assert submit(place)[0].startswith("done: ")
    ran = place.invoke("status", "tiny", "--json").json["runs"][0]["ran"]
    assert ran["foreign"] == [f"{tmp_path}/poison/tinypkg.py"]


def test_a_program_of_a_tree_that_finds_the_installed_copy_instead_is_reported(place: Place) -> None:
    path = place.root / "experiments" / "tiny.yaml"
    text = path.read_text()
    place.text("tree/tools/look.py", "import sys, tinypkg\nopen(sys.argv[1], 'w').write(tinypkg.__file__)\n")
    place.text("tree/tinypkg.py", "answer = 43\n")
    command = 'python tools/look.py "$DDQJOBS_WORK_DIR/out.txt"'
    text = text.replace("path: .,", f"path: {place.root}/tree, ").replace(
        text[text.index("'python") :], f"'{command}']"
    )
    path.write_text(text)
    assert submit(place)[0].startswith("done: ")
    message = "the installed tinypkg ran, not the code tree's own (its PYTHONPATH lacks the tree): look"
    assert message in place.invoke("report", "tiny").out
    own = f"variables: {{PYTHONPATH: {place.root}/tree}}"
    path.write_text(text.replace("environment: tiny}", f"environment: tiny, {own}}}"))
    place.invoke("submit", "tiny", "--stale", "--wait")
    assert "the installed tinypkg" not in place.invoke("report", "tiny").out
    out = place.root / "results/tiny/runs/look/artifacts/out"
    assert out.read_text() == f"{place.root}/tree/tinypkg.py"


def refused(place: Place) -> str:
    """Submit the run, which ends before its work begins: the reason."""
    status, record = submit(place)
    assert status.startswith("failed: environment: environment tiny: ")
    assert not list((place.root / "results/tiny/runs/look").glob("attempts/*/work_dir/*"))
    assert record["problem"] in status
    return str(record["problem"])


def test_what_is_not_the_lock_s_ends_an_attempt_with_its_path(place: Place, tmp_path: Path) -> None:
    poison, there = tmp_path / "poison", packages(place)
    by = f"{poison} is on sys.path by {{}} and is not the environment's: it has tinypkg.py"

    (there / "extra.pth").write_text(f"{poison}\n")
    assert refused(place) == by.format(f"{named(place)}/extra.pth")
    (there / "extra.pth").unlink()

    (there / "usercustomize.py").write_text("")
    place.invoke("retry", "look")
    assert refused(place) == f"{there}/usercustomize.py was added to the environment"
    (there / "usercustomize.py").unlink()

    text = (there / "tinypkg.py").read_text()
    (there / "tinypkg.py").write_text("answer = 0\n")
    place.invoke("retry", "look")
    assert refused(place) == f"{there}/tinypkg.py is not what was built in the environment"
    (there / "tinypkg.py").write_text(text)

    added = there / "extra-1.0.dist-info"
    added.mkdir()
    (added / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    place.invoke("retry", "look")
    assert refused(place) == f"extra 1.0 in {named(place)} is not in the lock"
    added.rename(tmp_path / "extra")

    info = there / "tinypkg-1.0.dist-info" / "METADATA"
    info.parent.rename(there / "tinypkg.gone")
    place.invoke("retry", "look")
    assert refused(place) == f"tinypkg 1.0 of the lock is missing in {named(place).parents[2]}"
    (there / "tinypkg.gone").rename(info.parent)

    info.write_text(info.read_text().replace("Version: 1.0", "Version: 9.9"))
    place.invoke("retry", "look")
    assert refused(place) == f"tinypkg is 9.9 in {named(place)}, and 1.0 in the lock"


def test_a_snapshot_that_was_edited_ends_an_attempt_and_is_mended(place: Place) -> None:
    place.text("experiments/configs/mine/model.py", "gain = 1\n")
    write_site(
        place, setup=[f"for f in {place.root}/results/tiny/code/*/configs/mine/model.py; do echo > $f; done"]
    )
    problem = refused(place)
    (edited,) = (place.root / "results/tiny/code").glob("*/configs/mine/model.py")
    assert (
        problem == f"{edited} is not what was submitted; `ddqjobs retry tiny look` copies your own file anew"
    )
    write_site(place)
    place.invoke("retry", "look")
    assert submit(place)[0].startswith("done: ")
    assert edited.read_text() == "gain = 1\n"


def test_a_file_changed_after_the_proof_is_told_at_the_end(place: Place) -> None:
    path = place.root / "experiments" / "tiny.yaml"
    change = "import os, tinypkg; open(tinypkg.__file__, ''a'').write(''# later'');"
    path.write_text(path.read_text().replace("import tinypkg;", change))
    assert submit(place)[0].startswith("done: ")
    ran = place.invoke("status", "tiny", "--json").json["runs"][0]["ran"]
    assert ran["changed"] == [f"{named(place)}/tinypkg.py"]
    message = f"its environment was changed since it was built: {named(place)}/tinypkg.py: look"
    assert message in place.invoke("report", "tiny").out


def named(place: Place) -> Path:
    """Return the folder of packages by the path that jobs use."""
    where = environment.location(place.root / ".environments", environment.load("tiny", Files(place.root)))
    return next((where / "lib").glob("python*/site-packages"))


def test_a_path_that_the_shell_and_the_site_bring_changes_nothing(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = tmp_path / "poison"
    write_site(place, setup=[f"export PYTHONPATH={poison}"])
    monkeypatch.setenv("PYTHONPATH", str(poison))
    status, record = submit(place)
    assert status.startswith("done: ")
    assert record.pop("left_out") == f"PYTHONPATH={poison}"
    assert str(poison) not in json.dumps(record)
    module_path = (place.root / "results/tiny/runs/look/artifacts/out").read_text().strip()
    assert Path(module_path).resolve() == packages(place) / "tinypkg.py"


def test_an_environment_of_the_site_s_own_is_recorded_and_not_locked(place: Place, tmp_path: Path) -> None:
    activate = tmp_path / "own" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    (activate.parent / "python").symlink_to(named(place).parents[2] / "bin" / "python")
    activate.write_text(f"export PYTHONPATH={tmp_path}/poison:$PYTHONPATH\n")
    write_site(place, activate={"tiny": str(activate)})
    status, record = submit(place)
    assert status.startswith("done: ")
    assert record["locked"] is False
    assert record["variables"]["PYTHONPATH"].startswith(f"{tmp_path}/poison:")
    assert f"ran with not locked, Python {record['python']}" in place.invoke("report", "tiny").out
