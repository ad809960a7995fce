"""Environments: declarations, digests, states; and real builds by uv, from wheels made here, offline."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import signal
import subprocess
import textwrap
from pathlib import Path

import msgspec
import pytest

from ddqjobs.base import process
from ddqjobs.base.errors import EnvironmentNotReadyError, InputError, MissingError
from ddqjobs.environments import checks, tools
from ddqjobs.environments import environment as environments
from ddqjobs.environments.build import build, lock, verify
from ddqjobs.environments.environment import digest, identity, load, location, require, state
from ddqjobs.spec.shipped import Files, shipped_root
from tests.support.environments import (
    PYTHON,
    Place,
    build_into,
    in_process,
    lock_of,
    orphans,
    wait_for,
    wheel,
)

# Declarations


@pytest.mark.parametrize("name", ["mini-legacy", "mini-new"])
def test_shipped_environments(name: str, tmp_path: Path) -> None:
    environment = load(name, Files(tmp_path))
    assert name in environments.declared(Files(tmp_path))
    assert environment.path == shipped_root() / "envs" / name / "env.yaml"
    pins = environments.pins(environment.lock)
    assert pins["torch"] == "2.13.0+cpu"
    assert (pins["mmdet"], pins["mmengine"]) == {
        "mini-legacy": ("3.2.0", "0.8.5"),
        "mini-new": ("3.3.0", "0.10.7"),
    }[name]
    assert "opencv-python" not in pins  # the headless one needs no libGL
    assert "://" not in environment.lock
    assert environment.lock.count("--hash=sha256:") >= len(pins)
    assert ("ddqjobs/detect/verify.py") in dict(environment.check_files)


def test_unknown_name(place: Place) -> None:
    with pytest.raises(MissingError, match=r"no environment 'tini'; did you mean 'tiny'\?"):
        load("tini", Files(place.root))


def test_all_problems_of_a_declaration(place: Place) -> None:
    (place.folder / "env.yaml").write_text(
        textwrap.dedent(
            """\
            name: other
            python: "3.11"
            requirements: none.txt
            checks:
              a: {command: [x], timeout: soon, files: [ddqjobs/spec/model.py, nowhere.py, ../x, /etc/passwd]}
            """
        )
    )
    with pytest.raises(InputError) as caught:
        place.load()
    assert [(problem.line, problem.message) for problem in caught.value.problems] == [
        (1, "name must be 'tiny', like its folder"),
        (3, "no file 'none.txt' in envs/tiny; write there what is to be installed"),
        (5, "'soon' is not a valid duration; use 90s, 45m, 24h, 2d or 1h30m"),
        (5, "no file or folder '../x' of ddqjobs"),
        (5, "no file or folder '/etc/passwd' of ddqjobs"),
        (5, "no file or folder 'nowhere.py' of ddqjobs"),
    ]


def test_an_environment_that_is_only_entered_needs_no_requirements(tmp_path: Path) -> None:
    (tmp_path / "envs/own").mkdir(parents=True)
    (tmp_path / "envs/own/env.yaml").write_text('name: own\npython: "3.11"\n')
    environment = load("own", Files(tmp_path))
    with pytest.raises(EnvironmentNotReadyError) as caught:
        require(tmp_path, environment)
    assert str(caught.value) == (
        "environment own is not ready: it has no requirements.txt; name its script under `activate:` of the "
        "site, or write envs/own/requirements.txt"
    )
    why = r"env.yaml:1: no file 'requirements.txt' in envs/own; write there what is to be installed"
    with pytest.raises(InputError, match=why):
        load("own", Files(tmp_path), locking=True)


def test_a_version_that_yaml_reads_as_a_number(place: Place) -> None:
    place.edit(f'"{PYTHON}"', "3.11")
    with pytest.raises(InputError, match=r":3: python must be text, not the number 3.11; put it in quotes"):
        place.load()


def test_a_project_overrides_single_files(tmp_path: Path) -> None:
    folder = tmp_path / "envs" / "mini-new"
    folder.mkdir(parents=True)
    (folder / "lock.txt").write_text("torch==1\n")
    environment = load("mini-new", Files(tmp_path))
    assert environment.lock == "torch==1\n"
    assert environment.requirements == shipped_root() / "envs" / "mini-new" / "requirements.txt"


def test_what_the_digests_cover(place: Place) -> None:
    first = place.load()
    place.edit("name: tiny", "name: tiny\ntitle: another title")
    (place.folder / "lock.txt").write_text("# a comment\n" + first.lock)
    assert (identity(place.load()), digest(place.load())) == (identity(first), digest(first))
    place.edit("tinypkg.answer", "tinypkg")
    assert identity(place.load()) == identity(first)
    assert digest(place.load()) != digest(first)
    other = dataclasses.replace(first, check_files=(("a.py", place.folder / "env.yaml"),))
    assert identity(other) == identity(first)
    assert digest(other) != digest(first)
    place.edit("hello", "bye")
    assert identity(place.load()) != identity(first)
    assert identity(dataclasses.replace(first, lock=first.lock.replace("1.0", "1.1"))) != identity(first)


def test_pins() -> None:
    text = "# c\nTorch_X==1+cpu \\\n    --hash=sha256:aa\nb.c==2 --hash=sha256:bb\n"
    assert environments.pins(text) == {"torch-x": "1+cpu", "b-c": "2"}


# Builds


def test_build_verify_ready(place: Place) -> None:
    environment = place.load()
    assert state(place.base, environment).ready is None
    with pytest.raises(
        EnvironmentNotReadyError, match="tiny is not ready: it is not built; run: ddqjobs env build tiny"
    ):
        require(place.base, environment)
    ready = place.build()
    assert ready == require(place.base, environment) == state(place.base, environment).ready
    assert ready.packages == {"tinypkg": "1.0"}
    assert ready.python.startswith(PYTHON)
    assert ready.checks["answer"].output == "hello 42"
    assert place.said[-1].startswith("tiny: ready after ")
    python = location(place.base, environment) / "bin" / "python"
    answer = subprocess.run(
        [python, "-c", "import tinypkg; print(tinypkg.answer)"], capture_output=True, check=True
    )
    assert answer.stdout == b"42\n"
    # A second build has nothing to do, one with `again` replaces the first and keeps it for jobs in it.
    place.said.clear()
    assert place.build() == ready
    assert place.said == []
    assert place.build(again=True).verified_at > ready.verified_at
    assert len(place.builds()) == 2
    assert verify(environment, place.base, progress=place.said.append).packages == ready.packages


def test_changed_checks_are_verified_and_nothing_is_built(place: Place) -> None:
    place.build()
    builds = place.builds()
    place.edit("tinypkg.answer", "tinypkg.answer + 1")
    readiness = state(place.base, place.load())
    assert (readiness.built, readiness.reason) == (True, "its checks changed since it was verified")
    assert place.build().checks["answer"].output == "hello 43"
    assert place.builds() == builds


def test_changed_lock_is_another_environment(place: Place) -> None:
    place.build()
    (place.folder / "lock.txt").write_text(lock_of(wheel(place.wheels, version="1.1")))
    assert state(place.base, place.load()).word == "stale"
    assert (
        state(place.base, place.load()).reason
        == "it is not built for the present lock (an older build is there)"
    )
    assert place.build().packages == {"tinypkg": "1.1"}


def test_damaged_environments_are_not_ready(place: Place) -> None:
    ready = place.build()
    environment = place.load()
    proof = location(place.base, environment) / "ready.json"
    text = proof.read_text()
    proof.write_text(text.replace(ready.identity, "0" * 64))
    assert state(place.base, environment).reason == "it was built from another lock"
    proof.write_text(text[:100])
    assert "cannot be read" in state(place.base, environment).reason
    proof.write_text(text)
    module = next(location(place.base, environment).glob("lib/*/site-packages/tinypkg.py"))
    module.unlink()
    with pytest.raises(
        EnvironmentNotReadyError, match=r"files are not those that were built: .*/tinypkg\.py gone; `ddqjobs"
    ):
        verify(environment, place.base, progress=place.said.append)
    readiness = state(place.base, environment)
    assert (readiness.word, readiness.reason) == ("unverified", "it is built but not verified")
    place.build()  # anew, since what is there is not what was built
    assert len(place.builds()) == 2
    (location(place.base, environment) / "bin" / "python").unlink()
    assert state(place.base, environment).reason == "its Python interpreter is gone from this machine"


def test_an_interpreter_that_may_not_be_looked_at_is_a_reason_and_no_error(place: Place) -> None:
    place.build()
    environment = place.load()
    python = location(place.base, environment) / "bin" / "python"
    python.unlink()
    python.symlink_to("/" + "x" * 300)  # refused by the system for everybody, root too
    readiness = state(place.base, environment)
    assert (readiness.ready, readiness.reason) == (
        None,
        "its Python interpreter cannot be reached (File name too long)",
    )


def test_what_fails_before_there_is_a_log_names_none(place: Place) -> None:
    place.base.write_text("no folder")
    with pytest.raises(EnvironmentNotReadyError) as caught:
        place.build()
    assert str(caught.value).endswith(f"{place.base}/.logs/tiny: Not a directory")


def test_installed_packages_must_be_those_of_the_lock(place: Place) -> None:
    wheel(place.wheels, version="1.1")
    place.edit("checks:", "steps:\n  another: {command: [uv, pip, install, tinypkg==1.1]}\nchecks:")
    with pytest.raises(
        EnvironmentNotReadyError, match=r"not those of the lock: tinypkg 1\.1 instead of 1\.0; log"
    ):
        place.build()


def fails(place: Place, match: str, *, built: bool = False) -> None:
    """A build that fails says why in one line, where its log is, and leaves what was there before. If it was
    only its verification that failed (``built``), and nothing was there, it waits to be verified."""
    before = state(place.base, place.load())
    with pytest.raises(EnvironmentNotReadyError, match=match) as caught:
        place.build(again=True)
    log = Path(str(caught.value).rpartition("log: ")[2])
    assert log.is_file()
    assert log.parent == place.base / ".logs" / "tiny"
    assert "\n" not in str(caught.value)
    after = state(place.base, place.load())
    assert after.ready == before.ready
    assert after.built is (built or before.built)


@pytest.mark.parametrize("built", [False, True])
def test_failures(place: Place, built: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if built:
        place.build()
    wheel(place.wheels, code="answer = 43\n")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    fails(place, "environment tiny: installing 1 package failed: a file is not the one that the lock names")
    broken = place.wheels / "tinypkg-1.0-py3-none-any.whl"
    broken.write_bytes(broken.read_bytes()[:200])
    fails(place, "environment tiny: installing 1 package failed: ")
    broken.unlink()
    fails(
        place,
        "installing 1 package failed: a package is in none of the configured indexes and wheel folders",
    )
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    fails(place, "installing 1 package failed: a package index or code server cannot be reached")


def test_no_such_python(place: Place) -> None:
    place.edit(f'"{PYTHON}"', '"3.99"')
    fails(
        place, r"making a virtual environment with Python 3\.99 failed: that Python is neither installed nor"
    )


def test_failing_and_endless_checks(place: Place) -> None:
    place.edit("tinypkg.answer)", "1/0)")
    fails(place, "check 'answer' failed: ZeroDivisionError: division by zero", built=True)
    place.edit("import os", "import time; time.sleep(60); import os")
    place.edit("  answer:", "  answer:\n    timeout: 1s")
    fails(place, "check 'answer' did not end in time", built=True)


def test_a_check_that_needs_a_gpu(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built where there is none, verified where there is one; and that holds where there is none again."""
    place.edit("  answer:", "  answer:\n    gpu: true")
    monkeypatch.setattr(checks, "has_gpu", lambda: False)
    fails(place, "built, but check 'answer' needs a GPU, .*env verify tiny --on-node --gpus 1", built=True)
    assert state(place.base, place.load()).word == "unverified"
    monkeypatch.setattr(checks, "has_gpu", lambda: True)
    first = place.build()
    assert len(place.builds()) == 1
    monkeypatch.setattr(checks, "has_gpu", lambda: False)
    again = verify(place.load(), place.base, progress=place.said.append)
    assert (again.checks, again.verified_at > first.verified_at) == (first.checks, True)
    place.edit("tinypkg.answer)", "tinypkg)")
    with pytest.raises(EnvironmentNotReadyError, match="needs a GPU"):
        verify(place.load(), place.base, progress=place.said.append)


def test_a_check_sees_its_declared_files_only(place: Place) -> None:
    place.edit("    command: [-c,", "    files: [ddqjobs/base/units.py]\n    command: [-c,")
    place.edit("import os, tinypkg;", "import os, tinypkg, ddqjobs.base.units;")
    place.build()
    place.edit("ddqjobs.base.units;", "ddqjobs.base.units, ddqjobs.base.errors;")
    with pytest.raises(EnvironmentNotReadyError, match=r"No module named 'ddqjobs.base.errors'"):
        place.build()


def test_full_disk(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checks, "replace", full)
        fails(place, "environment tiny: the disk is full: free space")
    place.build()


def test_a_folder_that_cannot_be_written(place: Place) -> None:
    place.base.write_text("a file")
    with pytest.raises(EnvironmentNotReadyError, match=r"environment tiny: .*Not a directory|File exists"):
        place.build()


def test_fallback_indexes_are_asked_last(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    index = place.root / "index" / "tinypkg"
    index.mkdir(parents=True)
    file = next(place.wheels.iterdir()).rename(index / "tinypkg-1.0-py3-none-any.whl")
    (index / "index.html").write_text(f'<html><body><a href="{file.name}">{file.name}</a></body></html>')
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"file://{place.wheels}")
    fails(place, "installing 1 package failed: ")
    place.edit("name: tiny", "name: tiny\nfallback_indexes: ['http://127.0.0.1:9/simple']")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    fails(
        place,
        r"wheel folders lack tinypkg.*; asked http://127.* failed: a package index or code server cannot",
    )
    place.edit("http://127.0.0.1:9/simple", f"file://{index.parent}")
    place.build()
    assert f"tiny: installing 1 package, also from file://{index.parent}" in place.said


def test_declared_wheel_folders(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.edit("name: tiny", f"name: tiny\nwheels: ['{place.wheels}']")
    monkeypatch.delenv("UV_FIND_LINKS")
    place.build()
    (place.root / "empty").mkdir()
    monkeypatch.setenv("UV_FIND_LINKS", str(place.root / "empty"))
    place.build(again=True)


# Locks


def test_lock(place: Place) -> None:
    wheel(place.wheels, version="1.1")
    old = (place.folder / "lock.txt").read_text()
    assert lock(place.load(), place.base, progress=place.said.append) == place.folder / "lock.txt"
    text = (place.folder / "lock.txt").read_text()
    assert environments.pins(text) == {"tinypkg": "1.0"}
    assert old.split("sha256:")[1].strip() in text
    assert text.startswith("# Made by `ddqjobs env lock tiny` from requirements.txt; Python ")
    assert str(place.root) not in text
    place.build()
    lock(place.load(), place.base, progress=place.said.append, upgrade=True)
    assert environments.pins((place.folder / "lock.txt").read_text()) == {"tinypkg": "1.1"}
    assert place.said[-1].startswith("tiny: 1 package in ")


def test_lock_takes_the_file_of_an_index_that_was_rebuilt(place: Place) -> None:
    wheel(place.wheels, code="answer = 43  # the same version, another file\n")
    with pytest.raises(EnvironmentNotReadyError, match=r"the lock names .* ddqjobs env lock"):
        place.build()
    lock(place.load(), place.base, progress=place.said.append)
    place.build()


def test_lock_with_overrides(place: Place) -> None:
    (place.folder / "requirements.txt").write_text("tinypkg\nabsent\n")
    (place.folder / "overrides.txt").write_text("absent; sys_platform == 'never'\n")
    place.edit("name: tiny", "name: tiny\noverrides: overrides.txt")
    lock(place.load(), place.base, progress=place.said.append)
    assert environments.pins((place.folder / "lock.txt").read_text()) == {"tinypkg": "1.0"}


def test_lock_that_cannot_be_made_changes_nothing(place: Place) -> None:
    (place.folder / "requirements.txt").write_text("nowhere==3\n")
    before = (place.folder / "lock.txt").read_text()
    with pytest.raises(
        EnvironmentNotReadyError, match=r"resolving requirements\.txt failed: a package is in none"
    ):
        lock(place.load(), place.base, progress=place.said.append)
    assert (place.folder / "lock.txt").read_text() == before
    (place.folder / "requirements.txt").write_text(
        f"tinypkg @ file://{place.wheels}/tinypkg-1.0-py3-none-any.whl\n"
    )
    with pytest.raises(EnvironmentNotReadyError, match=r"line 1 of the lock names a place: tinypkg @ file:"):
        lock(place.load(), place.base, progress=place.said.append)
    assert (place.folder / "lock.txt").read_text() == before


def test_lock_names_the_index_that_it_cannot_reach(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / "requirements.txt").write_text("nowhere==3\n")
    for name in ("UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    reached = r"cannot be reached \(http://127\.0\.0\.1:9/simple/\S+\): .* run the same command again"
    with pytest.raises(EnvironmentNotReadyError, match=reached):
        lock(place.load(), place.base, progress=place.said.append)


def test_lock_without_what_no_index_has(place: Place) -> None:
    """Nothing is built from it, every command says what it lacks, and a whole lock replaces it."""
    (place.folder / "requirements.txt").write_text("tinypkg==1.0+cu111\nprivate==3\nother\n")
    place.edit("name: tiny", "name: tiny\nwheels: ['http://127.0.0.1:9/wheels']")  # not asked either
    wheel(place.wheels, "other")
    lock(place.load(), place.base, progress=place.said.append, without=["tinypkg", "private"])
    environment = place.load()
    assert environments.pins(environment.lock) == {"other": "1.0"}
    assert environment.left_out == "tinypkg==1.0+cu111, private==3"
    message = (
        r"its lock is incomplete \(made where no package index had tinypkg==1\.0\+cu111, private==3\); "
        r"run: ddqjobs env lock tiny"
    )
    with pytest.raises(EnvironmentNotReadyError, match=message):
        place.build()
    assert place.builds() == []
    (place.folder / "requirements.txt").write_text("tinypkg\n")
    place.edit("wheels: ['http://127.0.0.1:9/wheels']", "")
    lock(place.load(), place.base, progress=place.said.append)
    assert place.load().locked
    place.build()


def test_without_lock(place: Place) -> None:
    (place.folder / "lock.txt").unlink()
    for command in (build, verify):
        with pytest.raises(EnvironmentNotReadyError, match="it is not locked; run: ddqjobs env lock tiny"):
            command(place.load(), place.base, progress=place.said.append)
    lock(place.load(), place.base, progress=place.said.append)
    place.build()


# Killed and simultaneous builds


@pytest.mark.parametrize("moment", ["making", "installing", "comparing", "check"])
def test_kill_during_a_build(place: Place, moment: str) -> None:
    place.edit("import os", "import time; time.sleep(1); import os")
    log = place.root / "said"
    builder = in_process(build_into, place, log)
    wait_for(log, f"tiny: {moment}")
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert state(place.base, place.load()).ready is None
    place.build()
    assert len(place.builds()) == 1
    assert orphans(place) == []


def test_two_builds_at_once(place: Place) -> None:
    place.edit("import os", "import time; time.sleep(1); import os")
    log = place.root / "said"
    builder = in_process(build_into, place, log)
    wait_for(log, "tiny: check")
    place.build()
    builder.join()
    assert builder.exitcode == 0
    assert place.said[0] == f"tiny: waiting for the build of pid {builder.pid} on {os.uname().nodename}"
    assert len(place.said) == 1
    assert len(place.builds()) == 1


def test_without_locks_of_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    place.build()


def test_builds_of_other_hosts_and_ready_ones_stay(place: Place) -> None:
    builds = place.base / ".builds" / "tiny"
    for name in ("elsewhere-1", "elsewhere-2", "dead-1"):
        (builds / name).mkdir(parents=True)
    gone = msgspec.structs.replace(process.myself(), start=1)
    (builds / "dead-1" / ".owner").write_bytes(msgspec.json.encode(gone))
    (builds / f"{os.uname().nodename}-1-d.link").symlink_to("nowhere")
    os.utime(builds / "elsewhere-2", (0, 0))
    (builds / "kept").mkdir()
    (builds / "kept" / "ready.json").touch()
    place.build()
    assert len(place.builds()) == 3
    assert {"elsewhere-1", "kept"} < set(place.builds())


def test_long_steps_show_that_they_go_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "TICK", 0.1)
    place.edit("import os", "import time; time.sleep(1); import os")
    place.build()
    assert any(line.startswith("tiny: check 'answer' (") for line in place.said)
