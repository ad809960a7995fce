"""Jobs of the local site that a hostile shell submits, and a site whose setup lines are hostile."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from tests.support.hostile import HOSTILE
from tests.support.trivial import TrivialProject, task

# Where a module of the standard library comes from, and all variables of the task.
LOOK = (
    '"$DDQJOBS_PYTHON" -c "import colorsys; print(colorsys.__file__)" > "$DDQJOBS_WORK_DIR/out.txt";'
    ' env -0 >> "$DDQJOBS_WORK_DIR/out.txt"'
)
OWN = ("_", "PWD", "OLDPWD", "SHLVL", "PORT")


def seen(project: TrivialProject, run: str) -> tuple[str, dict[str, str]]:
    """Return where the module came from and the variables that are not the run's own."""
    text = (project.results / "runs" / run / "artifacts" / "out").read_text()
    place, _, rest = text.partition("\n")
    pairs = (entry.partition("=") for entry in rest.split("\0") if entry)
    return place, {n: v for n, _, v in pairs if n not in OWN and not n.startswith("DDQJOBS_")}


@pytest.fixture
def poison(tmp_path: Path) -> Path:
    """Return a folder with a module that stands for one of the standard library, and hooks of `site`."""
    folder = tmp_path / "poison"
    folder.mkdir()
    for name in ("colorsys", "sitecustomize", "usercustomize"):
        (folder / f"{name}.py").write_text("")
    return folder


def test_a_job_of_a_hostile_shell_has_the_variables_of_a_clean_one(
    trivial: TrivialProject, poison: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trivial.tasks({"first": task(), "second": task()}, LOOK)
    assert trivial.cli("submit", "trivial", "first", "--wait").code == 0
    variables = {name: value.replace("/poison", str(poison)) for name, value in HOSTILE.items()}
    variables["PATH"] = f"{poison}/venv/bin:{poison}/conda/bin:{os.environ['PATH']}"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = trivial.cli("submit", "trivial", "second", "--wait")
    assert done.code == 0, done
    assert f"do not reach jobs: PYTHONPATH={poison}, PYTHONUSERBASE={poison}/user" in done.stdout
    (place, clean), (other, hostile) = seen(trivial, "first"), seen(trivial, "second")
    assert sorted(clean.items() ^ hostile.items()) == []
    assert place == other
    assert str(poison) not in place


def test_python_paths_environments_and_ranks_of_setup_lines_stay_out(
    trivial: TrivialProject, poison: Path
) -> None:
    lines = [
        f"export PYTHONPATH={poison} PYTHONHOME={poison} VIRTUAL_ENV={poison} CONDA_PREFIX={poison} RANK=3",
        "export CUDA_HOME=/opt/cuda LD_LIBRARY_PATH=/opt/cuda/lib NCCL_ALGO=Ring",
        f"module() {{ export PYTHONUSERBASE={poison}/$2 MASTER_ADDR=poison; }}",
        "export PYTHONNOUSERSITE=1 PIPENV_PYPI_MIRROR=https://me:hidden@host/simple",
    ]
    trivial.local_site(setup=lines, modules=["base/1"])
    trivial.tasks({"first": task()}, LOOK)
    assert trivial.cli("submit", "trivial", "first", "--wait").code == 0
    place, variables = seen(trivial, "first")
    assert str(poison) not in place
    assert str(poison) not in "".join(variables.values())
    assert not {"RANK", "MASTER_ADDR"} & variables.keys()
    attempt = trivial.results / "runs/first/attempts/1"
    left_out = json.loads((attempt / "proof.json").read_text())["left_out"]
    assert set(left_out.split()) == {
        *(f"PYTHONPATH={poison}", f"PYTHONHOME={poison}", "VIRTUAL_ENV", "CONDA_PREFIX"),
        *("PYTHONUSERBASE", "RANK", "MASTER_ADDR", "PIPENV_PYPI_MIRROR"),
    }
    first = (attempt / "stdout.log").read_text().splitlines()[0]
    assert first == f"ddqjobs: left out, though setup lines or modules export it: {left_out}"
    assert variables["LD_LIBRARY_PATH"] == "/opt/cuda/lib"
    assert (variables["CUDA_HOME"], variables["NCCL_ALGO"]) == ("/opt/cuda", "Ring")
    assert variables["PYTHONNOUSERSITE"] == "1"


def test_hooks_of_a_user_s_own_packages_do_not_run_in_jobs(
    trivial: TrivialProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = os.path.realpath(sys.executable)  # outside of its virtual environment, which reads no such hooks
    own = tmp_path / ".local/lib/python{}.{}/site-packages".format(*sys.version_info)
    own.mkdir(parents=True)
    (own / "usercustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    process.run([python, "-c", ""], timeout=60, env={"HOME": str(tmp_path)})
    (tmp_path / "ran").unlink()  # it runs in the shell
    monkeypatch.setenv("HOME", str(tmp_path))
    trivial.tasks({"first": task()}, f'{python} -c 1; echo x > "$DDQJOBS_WORK_DIR/out.txt"')
    done = trivial.cli("submit", "trivial", "first", "--wait")
    assert done.code == 0, done
    assert not (tmp_path / "ran").exists()
