"""Run the fast tests with each supported Python, against the installed wheel and not this checkout.

``make test-pythons`` calls this. The wheel is built once; each Python gets a virtual environment of its own
below ``.pythons/`` (ignored by git), with the wheel and tests/requirements.txt in it. Interpreters come from
PATH, pyenv or uv; nothing is downloaded. A missing one is said in capitals and is no failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".pythons"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def candidates(version: str) -> list[str]:
    """Return where an interpreter of a version may be: on PATH, in pyenv, or known to uv."""
    paths = [shutil.which(f"python{version}") or ""]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    paths += sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")), reverse=True)
    uv = [sys.executable, "-m", "uv", "python", "find", "--no-project", "--offline", version]
    paths += subprocess.run(uv, capture_output=True, text=True, check=False).stdout.splitlines()
    return [path for path in paths if path]


def interpreter(version: str) -> str | None:
    """Return the first interpreter that starts and is of this version. (pyenv's shims may do neither.)"""
    say = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    for path in candidates(version):
        result = subprocess.run([path, "-c", say], capture_output=True, text=True, check=False)
        if result.returncode == 0 and result.stdout.strip() == version:
            return path
    return None


def build() -> Path:
    """Build the wheel and return its path."""
    folder = PLACE / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    argv = [sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(argv, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(version: str, python: str, wheel: Path) -> Path:
    """Make the version's virtual environment, or bring it up to date, and return its folder."""
    venv = PLACE / version
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), *PIP, "install"]
    subprocess.run([*pip, str(wheel), "--requirement", "tests/requirements.txt"], cwd=ROOT, check=True)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", str(wheel)], check=True)
    return venv


def test(venv: Path, python: str, options: list[str]) -> int:
    """Run the fast tests with an environment's Python and return pytest's exit code. The interpreter that it
    was made with is on PATH: uv makes no environment of another environment's.

    With ``--import-mode=append`` the installed package comes before the checkout's; tests/conftest.py checks
    that it does.
    """
    argv = [str(venv / "bin" / "pytest"), "tests/unit", "-m", "not slow and not long", "-q"]
    argv += ["--import-mode=append", "-n", "3", "--dist", "worksteal", *options]
    folders = [str(venv / "bin"), str(Path(python).parent), os.environ["PATH"]]
    variables = {**os.environ, "PATH": os.pathsep.join(folders)}
    return subprocess.run(argv, cwd=ROOT, env=variables, check=False).returncode


def main() -> int:
    """Test each version, print a table, and return 1 if one has failed or none was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=VERSIONS, action="append", help="only this Python (repeatable)")
    arguments, options = parser.parse_known_args()
    wheel = build()
    rows: list[tuple[str, str, str]] = []
    for version in arguments.only or VERSIONS:
        python = interpreter(version)
        if python is None:
            rows.append((version, "NOT TESTED", "no such interpreter on PATH, in pyenv or known to uv"))
            continue
        print(f"== Python {version}: {python}", flush=True)
        try:
            venv = install(version, python, wheel)
        except subprocess.CalledProcessError as error:
            rows.append((version, "FAILED", f"not installed: {error}"))
            continue
        start = time.monotonic()
        code = test(venv, python, options)
        rows.append((version, f"FAILED ({code})" if code else "passed", f"{time.monotonic() - start:.0f} s"))
    print(f"\n{'Python':<8}{'fast tests':<14}with {wheel.name}")
    for version, outcome, detail in rows:
        print(f"{version:<8}{outcome:<14}{detail}")
    outcomes = [outcome for _, outcome, _ in rows]
    return int("passed" not in outcomes or any(outcome.startswith("FAILED") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
