"""A project with one tiny environment, and wheels made here: uv's only source, without a network."""

from __future__ import annotations

import base64
import hashlib
import multiprocessing
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from ddqjobs.base import process
from ddqjobs.environments import environment, uv
from ddqjobs.environments.build import build
from ddqjobs.environments.environment import Environment, load
from ddqjobs.environments.tools import MARK, How
from ddqjobs.spec.shipped import Files

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ENV = f"""
name: tiny
python: "{PYTHON}"
variables: {{GREETING: hello}}
checks:
  answer:
    command: [-c, "import os, tinypkg; print(os.environ['GREETING'], tinypkg.answer)"]
"""


def wheel(folder: Path, name: str = "tinypkg", version: str = "1.0", code: str = "answer = 42\n") -> Path:
    """Makes a wheel of one module."""
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in content.items():
        data = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={data},{len(text)}\n"
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return target


def lock_of(path: Path) -> str:
    name, version = path.name.split("-")[:2]
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Place:
    """A project with one environment, `tiny`, and a wheel folder that is uv's only source."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "environments"
        self.wheels = root / "wheels"
        self.folder = root / "envs" / "tiny"
        self.folder.mkdir(parents=True)
        self.wheels.mkdir()
        self.said: list[str] = []
        (self.folder / "env.yaml").write_text(ENV)
        (self.folder / "requirements.txt").write_text("tinypkg\n")
        (self.folder / "lock.txt").write_text(lock_of(wheel(self.wheels)))

    def load(self) -> Environment:
        return load("tiny", Files(self.root))

    def build(self, *, again: bool = False, how: How | None = None) -> environment.Ready:
        return build(self.load(), self.base, progress=self.said.append, again=again, how=how or How())

    def edit(self, old: str, new: str) -> None:
        path = self.folder / "env.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def builds(self) -> list[str]:
        folder = self.base / ".builds" / "tiny"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def in_process(target: Callable[..., None], *args: object) -> ForkProcess:
    builder = multiprocessing.get_context("fork").Process(target=target, args=args)
    builder.start()
    return builder


def build_into(place: Place, log: Path) -> None:
    with log.open("a", buffering=1) as file:
        build(place.load(), place.base, progress=lambda text: print(text, file=file), again=False)


def wait_for(log: Path, text: str) -> None:
    end = time.monotonic() + 30
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < end, f"{text!r} was never said"
        time.sleep(0.01)


def orphans(place: Place) -> list[int]:
    """Return the processes that builds of the environment left running."""
    builds = place.base / ".builds" / "tiny"
    marks = (str(folder) for folder in builds.iterdir())
    return [pid for mark in marks for pid in process.with_environment({MARK: mark})]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_FIND_LINKS", str(place.wheels))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setattr(uv, "pip_settings", lambda environ: {})
    return place


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path, files: dict[str, str]) -> str:
    """Makes a repository with one commit on branch `main`; its id."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return git(folder, "rev-parse", "HEAD")
