"""The real legacy stack: Python 3.8, torch 1.9 and mmcv with compiled operators, built once for all tests."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from ddqjobs.base import process
from tests.support.paths import TESTS

PROJECT = TESTS / "legacy" / "project"
BUILT = PROJECT / ".environments"
_LIMIT_S = 3600.0


class Stack:
    """A project outside of the checkout with the built environments."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root, self.environ = root, environ
        for name in ("envs", "experiments"):
            shutil.copytree(PROJECT / name, root / name)
        site = root / "templates" / "local"
        site.mkdir(parents=True)
        declared = {"name": "local", "scheduler": "local", "grace": "60s", "environments": str(BUILT)}
        (site / "site.yaml").write_text(json.dumps(declared))

    def ddqjobs(self, *arguments: str) -> process.Completed:
        """A command line in the project, to its end."""
        argv = [sys.executable, "-m", "ddqjobs", *arguments]
        return process.run(argv, timeout=_LIMIT_S, cwd=self.root, env=self.environ)

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.root / "results" / "legacy" / "runs" / name


def python38() -> Path | None:
    """A Python 3.8: on PATH, or among pyenv's versions."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    others = sorted(pyenv.glob("versions/3.8.*/bin/python3.8"), reverse=True)
    executable = shutil.which("python3.8")
    # A shim of pyenv's is on PATH also where no version is chosen; then it says just that.
    works = executable is not None and process.run([executable, "-c", ""], timeout=60).code == 0
    return next(iter([*([Path(str(executable))] if works else []), *others]), None)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    python = python38()
    if python is None:
        pytest.skip("NOT TESTED: the legacy stack: no Python 3.8 on PATH and none of pyenv's")
    environ = {
        **os.environ,
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
        "DDQJOBS_LEGACY_CXX": str(TESTS / "legacy" / "cxx.py"),
    }
    stack = Stack(tmp_path_factory.mktemp("legacy"), environ)
    done = stack.ddqjobs("env", "build", "legacy-cpu", "new-detr-cpu")
    assert done.code == 0, done.stdout + done.stderr
    return stack
