"""A build as a bash script and as an Apptainer definition: shellcheck, a real run, the exact commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ddqjobs.environments import environment as environments
from ddqjobs.environments.environment import load
from ddqjobs.environments.export import BASE_IMAGE, apptainer, script
from ddqjobs.environments.tools import uv_program
from ddqjobs.spec.shipped import Files
from tests.support import shellcheck
from tests.support.environments import Place, repository


@pytest.fixture
def rich(place: Place) -> Place:
    """`tiny` with everything that a declaration may have."""
    revision = repository(place.root / "it's a repo", {"code.py": "answer = 43\n"})
    place.edit(
        "checks:",
        f"""modules: [gcc/9.3.0, cuda/11.1]
wheels: [{place.wheels}]
trees:
  code: {{url: "{place.root}/it's a repo", branch: main, revision: '{revision}'}}
steps:
  compile:
    command: [python, -c, "import os; open('out.o', 'w').write(os.environ['FLAG'])"]
    tree: code
    variables: {{FLAG: "$(touch no) {{env.WORD}} '{{trees}}'"}}
    produces: ["out.*"]
  here: {{command: [touch, "a b"]}}
checks:""",
    )
    place.edit("variables: {", 'variables: {PYTHONPATH: "{trees}/code", ')
    return place


def test_the_script_builds_what_the_command_builds(rich: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "word")
    monkeypatch.setenv("PATH", f"{Path(uv_program()).parent}:{os.environ['PATH']}")
    path = rich.root / "build.sh"
    path.write_text(script(rich.load()))
    assert shellcheck.problems(path) == ""
    for _ in range(2):  # it may be run again
        done = subprocess.run(
            ["bash", path, rich.root / "built"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"tiny: built: {rich.root}/built/bin/python"
    assert "checking out" not in done.stderr
    code = rich.root / "built" / "trees" / "code"
    assert (code / "out.o").read_text() == f"$(touch no) word '{rich.root}/built/trees'"
    assert (rich.root / "built" / "a b").exists()
    rich.build()
    folder = environments.location(rich.base, rich.load())
    assert (folder / "trees" / "code" / "out.o").read_text().startswith("$(touch no) word '")
    files = "lib/*/site-packages/*p*.py"
    assert {file.name for file in folder.glob(files)} == {
        file.name for file in (rich.root / "built").glob(files)
    }


def test_a_step_that_leaves_nothing_ends_the_script(rich: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "word")
    monkeypatch.setenv("PATH", f"{Path(uv_program()).parent}:{os.environ['PATH']}")
    rich.edit('produces: ["out.*"]', "produces: [never]")
    done = subprocess.run(
        ["bash", "-c", script(rich.load()), "build.sh", rich.root / "built"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 70
    assert done.stderr.splitlines()[-1] == "tiny: step compile left no never"


def test_the_exact_commands_on_a_cluster(rich: Place, tmp_path: Path) -> None:
    """A site with a `module` command, where every program only logs how it was called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("uv", "git", "python"):
        (tools / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> "$LOG"\n'
            'case "$*" in *rev-parse*) echo "$HEAD";; *"-c "*) touch out.o;; esac\n'
        )
        (tools / name).chmod(0o755)
    path = tmp_path / "build.sh"
    path.write_text(script(rich.load(), ("gcc/9.3.0", "cuda/11.1")))
    assert shellcheck.problems(path) == ""
    head = rich.load().declaration.trees["code"].revision
    built = tmp_path / "built"
    (built / "trees" / "code").mkdir(parents=True)
    environ = {"PATH": f"{tools}:/usr/bin:/bin", "LOG": str(tmp_path / "log"), "HEAD": head, "WORD": "w"}
    module = 'module() { echo "module $*" >> "$LOG"; }; export -f module; bash "$0" "$1"'
    subprocess.run(["bash", "-c", module, path, built], env=environ, check=True, capture_output=True)
    assert (tmp_path / "log").read_text().splitlines() == [
        "module load gcc/9.3.0",
        "module load cuda/11.1",
        f"uv venv --quiet --allow-existing --prompt tiny --python {rich.load().declaration.python} {built}",
        "uv pip sync --require-hashes --only-binary :all: --allow-empty-requirements "
        f"--python {built}/bin/python {built}/lock.txt",
        f"git -C {built}/trees/code rev-parse HEAD",
        "python -c import os; open('out.o', 'w').write(os.environ['FLAG'])",
    ]


PLAN = {
    "legacy": ("DDQ", "main", "mmcv-1.4.7"),
    "legacy-detr": ("ddq_detr", "ddq_detr", "mmcv-2.0.0rc4"),
}


@pytest.mark.parametrize(("name", "expected"), PLAN.items())
def test_the_exact_commands_of_the_release(name: str, expected: tuple[str, str, str], tmp_path: Path) -> None:
    """The shipped script, on a site where modules, uv, git and the tree's Python only log their calls."""
    tree, branch, folder = expected
    environment = load(name, Files(tmp_path))
    revision = environment.declaration.trees[tree].revision
    tools, built = tmp_path / "bin", tmp_path / "built"
    tools.mkdir()
    suffix = "${MMCV_WITH_OPS:+ in ${PWD##*/} with $MMCV_WITH_OPS $CUDA_HOME}"
    log = f'echo "$(basename "$0") $*{suffix}" >> "$LOG"\n'
    acts = {
        "uv": "",
        # A checkout leaves the folder that the step enters; its revision is known from then on.
        "git": 'case "$*" in\n'
        f'  *checkout*) mkdir -p "$2/{folder}/mmcv";;\n'
        f'  *rev-parse*) [ ! -d "$2/{folder}" ] || echo {revision};;\nesac\n',
        "python": 'case "$*" in *build_ext*) : > mmcv/_ext.so;; esac\n',
    }
    for program, act in acts.items():
        (tools / program).write_text(f"#!/bin/bash\n{log}{act}")
        (tools / program).chmod(0o755)
    path = tmp_path / "build.sh"
    path.write_text(script(environment, tuple(environment.declaration.modules)))
    assert shellcheck.problems(path) == ""
    environ = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "LOG": str(tmp_path / "log"),
        "HOME": str(tmp_path),
        "CUDA_HOME": "/cuda",
    }
    module = 'module() { echo "module $*" >> "$LOG"; }; export -f module; bash "$0" "$1"'
    subprocess.run(["bash", "-c", module, path, built], env=environ, check=True, capture_output=True)
    place = f"git -C {built}/trees/{tree}"
    url = "https://github.com/jshilong/DDQ.git"
    sources = [word for package in environment.declaration.from_source for word in ("--no-binary", package)]
    assert (tmp_path / "log").read_text().splitlines() == [
        *(f"module load {module}" for module in environment.declaration.modules),
        f"uv venv --quiet --allow-existing --prompt {name} --python 3.8.12 {built}",
        f"uv pip sync --require-hashes --only-binary :all: {' '.join(sources)} --allow-empty-requirements "
        f"--python {built}/bin/python {built}/lock.txt",
        f"{place} rev-parse HEAD",
        f"{place} init --quiet .",
        f"{place} fetch --quiet --no-tags {url} {revision}",
        f"{place} remote add origin {url}",
        f"{place} checkout --quiet --detach {revision}",
        f"{place} rev-parse HEAD",
        f"python setup.py build_ext --inplace in {folder} with 1 /cuda",
    ]
    assert environment.declaration.trees[tree].branch == branch


def test_apptainer(rich: Place) -> None:
    text = apptainer(rich.load(), "0.9.7")
    assert text.startswith(f"Bootstrap: docker\nFrom: {BASE_IMAGE}\n")
    sections = dict(part.split("\n", 1) for part in text.split("\n%")[1:])
    assert sections["files"].strip() == "tiny.sh /opt/tiny.sh"
    assert "pip install --quiet uv==0.9.7\n    bash /opt/tiny.sh /opt/environment\n" in sections["post"]
    assert '"${PYTHONPATH:+$PYTHONPATH:}""/opt/environment/trees/code"\n' in sections["environment"]
    assert f"ddqjobs.identity {environments.identity(rich.load())}" in sections["labels"]
    assert "From: nvidia/cuda:1" in apptainer(rich.load(), "0.9.7", "nvidia/cuda:1")


@pytest.mark.parametrize("name", sorted(environments.declared(Files(Path("/nonexistent")))))
def test_scripts_of_what_ships_pass_shellcheck(name: str, tmp_path: Path) -> None:
    environment = load(name, Files(tmp_path))
    path = tmp_path / "build.sh"
    path.write_text(script(environment, tuple(environment.declaration.modules)))
    assert shellcheck.problems(path) == ""
    assert os.access(path, os.R_OK)
