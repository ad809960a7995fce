"""``ddqjobs env`` in a project: states, builds here and on a node of the local site, offline, removal."""

from __future__ import annotations

import ast
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddqjobs.base.errors import InputError
from ddqjobs.environments.environment import load
from ddqjobs.spec import shipped
from ddqjobs.spec.shipped import Files
from tests.support import environments
from tests.support.cli import TINY, Place, Terminal, opened
from tests.support.environments import wheel
from tests.support.hostile import HOSTILE
from tests.support.trivial import until

pytestmark = pytest.mark.slow  # builds environments with the command line

ENVIRONMENT = TINY.replace("shell: {title: bash,", "shell: {title: bash, environment: tiny,")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A project whose runs need the environment `tiny`."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    with opened(tmp_path / "project", ENVIRONMENT) as place:
        wheels = environments.Place(place.root).wheels
        monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
        monkeypatch.setenv("UV_NO_INDEX", "1")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        site = {"name": "local", "scheduler": "local", "grace": "0s", "python": sys.executable}
        place.write("templates/local/site.yaml", site)
        yield place


def state(place: Place) -> str:
    status: str = place.invoke("env", "list", "--json").json["environments"]["tiny"]["state"]
    return status


def test_states_and_why(project: Place) -> None:
    folder = project.root / "envs" / "tiny"
    assert state(project) == "missing"
    text = (folder / "env.yaml").read_text()
    (folder / "env.yaml").write_text(text.replace("tinypkg.answer)", "1/0)"))
    ran = project.invoke("env", "build", "tiny")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith("error: environment tiny: check 'answer' failed: ZeroDivision")
    assert state(project) == "unverified"
    output = project.invoke("env", "list").out
    assert re.search(r"^tiny +unverified +it is built but not verified$", output, re.MULTILINE)
    refused = project.invoke("submit", "tiny")
    assert (refused.code, refused.err.splitlines()[-1]) == (
        2, "error: environment tiny is not ready: it is built but not verified; run: ddqjobs env build tiny"
    )  # fmt: skip
    (folder / "env.yaml").write_text(text)
    assert project.invoke("env", "build", "tiny").out.startswith("tiny is ready: ")
    assert state(project) == "ready"
    (folder / "requirements.txt").write_text("tinypkg==1.1\n")
    wheel(project.root / "wheels", version="1.1")
    assert project.invoke("env", "lock", "tiny").code == 0
    assert state(project) == "stale"


def test_verify_in_a_hostile_shell_checks_what_a_clean_one_does(
    project: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    declaration = project.root / "envs" / "tiny" / "env.yaml"
    text = declaration.read_text()
    declaration.write_text(text.replace("os.environ['GREETING'], tinypkg.answer", "dict(os.environ)"))
    assert project.invoke("env", "build", "tiny").code == 0
    log = project.root / ".environments/.logs/tiny/check-answer.log"
    clean = log.read_text()
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, f"/poison/venv/bin:{os.environ['PATH']}" if name == "PATH" else value)
    assert project.invoke("env", "verify", "tiny").code == 0
    hostile = log.read_text()
    assert "'GREETING': 'hello'" in hostile
    assert "poison" not in hostile
    assert seen(hostile).keys() == seen(clean).keys()


def seen(log: str) -> dict[str, str]:
    """Return the variables that a check printed."""
    line = next(line for line in log.splitlines() if line.startswith("{"))
    variables: dict[str, str] = ast.literal_eval(line)
    return variables


def test_on_a_node(project: Place) -> None:
    ran = project.invoke("env", "build", "tiny", "--on-node", "--time", "10m")
    assert ran.code == 0, ran.out + ran.err
    lines = ran.out.splitlines()
    assert re.fullmatch(r"job \S+ of site local; its output: .*/out", lines[0])
    assert "tiny: check 'answer'" in lines
    assert lines[-1].startswith("tiny is ready: ")
    assert state(project) == "ready"
    (project.root / "envs" / "tiny" / "lock.txt").write_text("tinypkg==9 --hash=sha256:" + "0" * 64 + "\n")
    ran = project.invoke("env", "build", "tiny", "--on-node")
    assert ran.code == 2
    assert "a package is in none of the configured indexes" in ran.out


def test_modules_of_a_site(project: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that enters by modules loads them to build and in every job."""
    init = project.root / "modules" / "init"
    init.mkdir(parents=True)
    (init / "bash").write_text('module() { echo "$*" >> "$MODULE_LOG"; }\n')
    monkeypatch.setenv("MODULESHOME", str(init.parent))
    monkeypatch.setenv("MODULE_LOG", str(project.root / "loaded"))
    declaration = project.root / "envs" / "tiny" / "env.yaml"
    declaration.write_text(declaration.read_text().replace("checks:", "modules: [gcc/9.3.0, cuda]\nchecks:"))
    site: dict[str, object] = {"name": "local", "scheduler": "local", "grace": "0s", "modules": ["site"]}
    site |= {"enter": "modules", "setup": [f". {init}/bash"], "environment_modules": {"tiny": ["cuda/11.1"]}}
    project.write("templates/local/site.yaml", site)
    assert project.invoke("env", "build", "tiny").code == 0
    assert (project.root / "loaded").read_text() == "load site\nload cuda/11.1\n"
    (project.root / "loaded").unlink()
    project.invoke("submit", "tiny", "first")
    until(lambda: project.states()["first"] == "done")
    assert (project.root / "loaded").read_text() == "load site\nload cuda/11.1\n"


def test_a_job_sees_the_environment_s_trees_and_its_own_code(project: Place) -> None:
    declaration = project.root / "envs" / "tiny" / "env.yaml"
    text = declaration.read_text()
    declaration.write_text(text.replace("variables: {", 'variables: {PYTHONPATH: "{trees}/code", '))
    assert project.invoke("env", "build", "tiny").code == 0
    experiment = project.root / "experiments" / "tiny.yaml"
    experiment.write_text(experiment.read_text().replace("echo hello from first;", 'echo "<$PYTHONPATH>";'))
    project.invoke("submit", "tiny", "first")
    until(lambda: project.states()["first"] == "done")
    match = re.search(r"^<(.*)>$", project.log("first").read_text(), re.MULTILINE)
    assert match is not None
    first, second = match[1].split(":")[:2]
    assert re.fullmatch(rf"{project.root}/\.environments/tiny-[0-9a-f]{{12}}/trees/code", first)
    assert second.startswith(f"{project.root}/results/tiny/code/")


def test_fetch_and_build_offline(project: Place, tmp_path: Path) -> None:
    carried = tmp_path / "carried"
    assert project.invoke("env", "fetch", "tiny", "--to", str(carried)).out == f"fetched tiny: {carried}\n"
    for path in (project.root / "wheels").iterdir():
        path.unlink()
    ran = project.invoke("env", "build", "tiny", "--offline", "--from", str(carried))
    assert ran.code == 0, ran.err
    assert project.invoke("env", "build", "tiny", "--offline").code == 2
    ran = project.invoke("env", "build", "tiny", "--offline", "--from", str(tmp_path))
    assert (ran.code, ran.err) == (
        2, f"error: {tmp_path}: not a folder that `ddqjobs env fetch` filled (it has no wheels/)\n"
    )  # fmt: skip


def test_remove_asks_and_is_refused_while_runs_use_it(project: Place) -> None:
    assert project.invoke("env", "build", "tiny").code == 0
    ran = project.invoke("env", "remove", "tiny")
    assert (ran.code, state(project)) == (2, "ready")
    assert ran.err.startswith("error: this would remove all builds of tiny below ")
    project.invoke("submit", "tiny", "wait")
    until(lambda: project.attempts("wait"))
    ran = project.invoke("env", "remove", "tiny", "--yes")
    assert (ran.code, ran.err, state(project)) == (
        2, "error: environment tiny is in use by tiny: wait: wait for them, or cancel them\n", "ready"
    )  # fmt: skip
    (project.root / "go").touch()
    until(lambda: project.states()["wait"] == "done")
    assert project.invoke("env", "remove", "tiny", "--yes").out == "removed 1 builds of tiny\n"
    assert state(project) == "missing"


def test_export(project: Place) -> None:
    ran = project.invoke("env", "export", "tiny", "--apptainer", "--out", str(project.root / "image"))
    files = ("tiny.sh", "tiny.def", "tiny/bin/python", "tiny/bin/activate")
    assert ran.out.splitlines()[:4] == [f"wrote {project.root}/image/{name}" for name in files]
    assert ran.out.splitlines()[4].startswith("next: apptainer build tiny.sif tiny.def; in the site file: ")
    assert project.invoke("env", "export", "tiny").err == "error: choose either --script or --apptainer\n"


def test_two_terminals_build_once_and_the_second_says_for_whom_it_waits(project: Place) -> None:
    declaration = project.root / "envs" / "tiny" / "env.yaml"
    go = f"p = __import__('pathlib').Path('{project.root}/go')"
    wait = f"{go}; [__import__('time').sleep(0.02) for _ in iter(p.exists, True)]"
    declaration.write_text(declaration.read_text().replace("import os,", f"{wait}; import os,"))
    terminal = Terminal(project, "env", "build", "tiny", columns=100)
    terminal.read_until("check 'answer'")
    second = project.spawn("env", "build", "tiny")
    assert second.stderr is not None
    waiting = f"tiny: waiting for the build of pid {terminal.process.pid} on {os.uname().nodename}\n"
    assert second.stderr.readline() == waiting
    (project.root / "go").touch()
    code, output = terminal.close()
    out, err = second.communicate(timeout=60)
    assert code == second.returncode == 0, output
    assert "✓ tiny: installing 1 package" in output
    assert (out.count("is ready"), err) == (1, "")


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_build_that_is_ended_leaves_nothing_running_and_the_next_goes_on(
    number: signal.Signals, code: int, word: str, project: Place
) -> None:
    declaration = project.root / "envs" / "tiny" / "env.yaml"
    text = declaration.read_text()
    step = f"steps:\n  long: {{command: [sh, -c, 'echo $$ > {project.root}/pid; exec sleep 600']}}"
    declaration.write_text(text.replace("checks:", f"{step}\nchecks:"))
    build = project.spawn("env", "build", "tiny")
    until(lambda: (project.root / "pid").exists() and (project.root / "pid").read_text().endswith("\n"))
    pid = (project.root / "pid").read_text().strip()
    build.send_signal(number)
    _, errors = build.communicate(timeout=60)
    assert build.returncode == code
    assert f"{word}; finished parts are kept, and the same command goes on from there" in errors
    assert not Path("/proc", pid).exists()
    assert state(project) == "missing"


def test_a_project_s_own_requirements_are_locked_in_the_project(tmp_path: Path) -> None:
    folder = tmp_path / "envs" / "mini-new"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("torch==1.9.0\n")
    environment = load("mini-new", Files(tmp_path))
    assert (environment.lock_path, environment.lock) == (folder / "lock.txt", "")


def test_the_lock_of_an_environment_that_ships_is_made_in_the_project(
    project: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ships = tmp_path / "ships" / "envs"
    ships.mkdir(parents=True)
    (project.root / "envs" / "tiny").rename(ships / "tiny")
    monkeypatch.setattr(shipped, "shipped_root", lambda: ships.parent)
    before = (ships / "tiny" / "lock.txt").read_text()
    own = project.root / "envs" / "tiny" / "lock.txt"
    assert load("tiny", Files(project.root)).lock_path == ships / "tiny" / "lock.txt"
    assert project.invoke("env", "lock", "tiny").out.splitlines()[-1] == f"locked tiny: {own}"
    assert (ships / "tiny" / "lock.txt").read_text() == before
    assert load("tiny", Files(project.root)).lock == own.read_text() != before


def test_a_package_that_a_step_needs_from_now_on_can_be_locked(tmp_path: Path) -> None:
    place = environments.Place(tmp_path)
    declaration = place.folder / "env.yaml"
    text = declaration.read_text()
    declaration.write_text(text.replace("checks:", "steps:\n  it: {packages: [later]}\nchecks:"))
    with pytest.raises(InputError, match="'later' is not in the lock"):
        load("tiny", Files(tmp_path))
    assert load("tiny", Files(tmp_path), locking=True).lock
