"""Files that mean harm cost little: one line with its place, exit code 2, within 5 s of CPU and 500 MB."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ddqjobs.base.errors import InputError
from ddqjobs.environments.environment import load as environment_of
from ddqjobs.planning.catalog import Catalog
from tests.support.cli import ddqjobs, environment

HEAD = "name: y\nimplementations: {}\nmodels: {}\ncodes: {s: {commands: {prepare: [bash, -c, 'true']}}}\n"
TASK = "{{kind: prepare, once: true, code: s, products: {{o: out.txt}}{}}}"
FIRST = "tasks:\n  first: " + TASK + "\n"
CPU_S, MEMORY = 5, 500 << 20


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def plan(root: Path, text: str) -> tuple[int, str]:
    """Exit code and messages of `ddqjobs plan y` for an experiment file, within the limits."""
    (root / "experiments").mkdir(exist_ok=True)
    (root / "experiments/y.yaml").write_text(text)
    done = subprocess.run(
        ddqjobs("plan", "y"), cwd=root, env=environment(), preexec_fn=_limit, capture_output=True,
        stdin=subprocess.DEVNULL, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stderr


def chain(count: int, *, backwards: bool = False) -> str:
    names = [f"t{i}" for i in range(count)]
    lines = [f"  t0: {TASK.format('')}\n"]
    lines += [
        f"  {name}: {TASK.format(f', inputs: {{i: {above}.o}}')}\n"
        for above, name in itertools.pairwise(names)
    ]
    return HEAD + "tasks:\n" + "".join(reversed(lines) if backwards else lines)


MERGED = "a: &a {" + ", ".join(f"k{i}: {i}" for i in range(290)) + "}\n"
MERGED += "".join(f"m{j}: {{<<: [{', '.join(['*a'] * 900)}]}}\n" for j in range(300))
REFUSED = {
    "merge keys": MERGED,
    "unknown keys": HEAD + FIRST.format("") + "".join(f"k{i}: 1\n" for i in range(100_000)),
    "long number": HEAD + FIRST.format(", resources: {time: " + "9" * 5000 + "d}"),
    "circle": chain(5000).replace(" t0: {", " t0: {inputs: {i: t4999.o}, "),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_would_take_long_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    code, message = plan(tmp_path, REFUSED[what])
    assert code == 2, message
    assert len(message.splitlines()) == 1
    assert message.startswith("error: experiments/y.yaml:")


def test_unknown_names_by_the_thousand_are_counted(tmp_path: Path) -> None:
    tasks = "".join(f"  t{i}: {TASK.format(f', phase: q{i}')}\n" for i in range(5000))
    code, message = plan(tmp_path, HEAD + "tasks:\n" + tasks)
    assert code == 2
    assert len(message.splitlines()) == 51
    assert "more problems" in message.splitlines()[-1]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_chain_of_5000_tasks_is_planned(tmp_path: Path, backwards: bool) -> None:
    assert plan(tmp_path, chain(5000, backwards=backwards)) == (0, "")


def load(root: Path, text: str) -> str:
    """Return the message of an experiment that is refused."""
    (root / "experiments").mkdir(exist_ok=True)
    (root / "experiments/y.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        Catalog(root).load("y")
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("'true'", '"a\\0b"') + FIRST.format(""),
        HEAD + FIRST.format(', variables: {A: "a\\0b"}'),
        HEAD + FIRST.format("").replace("out.txt", '"a\\0b"'),
        'base: "a/\\0b"\n',
        HEAD + '"a\\0b": 1\n',
    ],
)
def test_the_character_nul_is_refused(tmp_path: Path, text: str) -> None:
    assert "the character NUL" in load(tmp_path, text)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [pipe, device, large, folder])
def test_what_is_no_ordinary_file_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "other.yaml")
    assert load(tmp_path, "base: ../other.yaml\nname: y\n").startswith(
        (f"{tmp_path}/experiments/y.yaml:1: base: ", "experiments/y.yaml:1: base: ")
    )
    (tmp_path / "experiments/y.yaml").unlink()
    make(tmp_path / "experiments/y.yaml")
    with pytest.raises(InputError, match=r"y\.yaml: cannot be read: "):
        Catalog(tmp_path).load("y")


@pytest.mark.parametrize("base", ["/proc/kmsg", "/proc/self/environ", "/etc/passwd", "../../private.yaml"])
def test_a_base_outside_of_the_project_is_not_read(tmp_path: Path, base: str) -> None:
    (tmp_path / "private.yaml").write_text("secret-word: 1\n")
    (tmp_path / "project").mkdir()
    message = load(tmp_path / "project", f"base: {base}\nname: y\n")
    assert "leads out of the project" in message
    assert "secret-word" not in message


def test_an_input_that_is_no_ordinary_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path in ("pipe", "/proc/kmsg", "/dev/zero"):
        text = HEAD + FIRST.format(f", inputs: {{c: 'path:{path}'}}")
        (tmp_path / "experiments/y.yaml").write_text(text)
        assert len(Catalog(tmp_path).load("y").runs) == 1


@pytest.mark.parametrize("place", ["experiments/y.yaml", "templates/y/site.yaml", "envs/y/env.yaml"])
def test_a_file_that_links_out_of_the_project_shows_nothing(tmp_path: Path, place: str) -> None:
    """A stranger's project may link to what only its reader may read."""
    (tmp_path / "private.yaml").write_text("secret-word: 1\n")
    project = tmp_path / "project"
    (project / "experiments").mkdir(parents=True)
    (project / "experiments/y.yaml").write_text(HEAD + FIRST.format(""))
    (project / place).parent.mkdir(parents=True, exist_ok=True)
    (project / place).unlink(missing_ok=True)
    (project / place).symlink_to(tmp_path / "private.yaml")
    look: dict[str, Callable[[Catalog], object]] = {
        "experiments": lambda catalog: catalog.load("y"),
        "templates": lambda catalog: catalog.site("y"),
        "envs": lambda catalog: environment_of("y", catalog.files),
    }
    with pytest.raises(InputError) as error:
        look[place.partition("/")[0]](Catalog(project))
    assert str(error.value) == (
        f"{place}: cannot be read: a link that leads out of the project; copy the file into it"
    )


def test_a_lock_or_a_configuration_that_is_no_ordinary_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "experiments/configs").mkdir(parents=True)
    (tmp_path / "envs/e").mkdir(parents=True)
    (tmp_path / "envs/e/env.yaml").write_text("name: e\ntitle: e\npython: '3.11'\n")
    (tmp_path / "envs/e/requirements.txt").touch()
    (tmp_path / "envs/e/lock.txt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"lock\.txt: cannot be read: a link that leads out of the project"):
        environment_of("e", Catalog(tmp_path).files)
    (tmp_path / "experiments/configs/c.py").symlink_to("/proc/kmsg")
    code, message = plan(tmp_path, HEAD + FIRST.format(", config: configs/c.py"))
    assert (code, len(message.splitlines())) == (2, 1)
    assert message.endswith("configs/c.py: a file of the system, not of a project\n")
