"""Verification of a built environment: its files, its packages, its checks; at the end its ready.json."""

from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path

import msgspec

from ddqjobs.base.errors import EnvironmentNotReadyError
from ddqjobs.base.files import replace
from ddqjobs.base.units import seconds
from ddqjobs.environments import environment as environments
from ddqjobs.environments import manifest
from ddqjobs.environments.environment import BUILT, FILES, READY, Built, CheckResult, Ready
from ddqjobs.environments.tools import Tools
from ddqjobs.environments.turns import temporary
from ddqjobs.spec.environment import Check

# Inside the environment: its Python, and what is installed in it.
_INVENTORY = """
import importlib.metadata, json, platform
found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps({"python": platform.python_version(), "packages": found}))
"""


def verify(tools: Tools, folder: Path, *, files: bool) -> Ready:
    """Inventory and checks, then ready.json; with ``files`` every installed file is read and compared before.
    An environment that fails has no ready.json any more. Raises EnvironmentNotReadyError, OSError."""
    environment = tools.environment
    proof = folder / READY
    try:
        tools.step_log("verify")
        if files:
            _compare_files(tools, folder)
        python, packages = _inventory(tools, folder)
        checks = {}
        for name, check in environment.declaration.checks.items():
            there = has_gpu() or not check.gpu
            checks[name] = (_check if there else _passed_elsewhere)(tools, folder, name, check)
    except EnvironmentNotReadyError:
        proof.unlink(missing_ok=True)
        raise
    ready = Ready(
        name=environment.name,
        identity=environments.identity(environment),
        digest=environments.digest(environment),
        python=python,
        packages=packages,
        checks=checks,
        host=socket.gethostname(),
        verified_at=time.time(),
        files=built(folder).files,
    )
    replace(proof, msgspec.json.format(msgspec.json.encode(ready), indent=2))
    return ready


def record_built(tools: Tools, folder: Path, steps: dict[str, float]) -> None:
    """Writes which files a finished build consists of, and built.json last."""
    tools.say("taking the digests of its files")
    text = manifest.manifest(folder)
    replace(folder / FILES, text.encode())
    built = Built(
        name=tools.environment.name,
        identity=environments.identity(tools.environment),
        files=manifest.digest(text),
        steps=steps,
        host=socket.gethostname(),
        built_at=time.time(),
    )
    replace(folder / BUILT, msgspec.json.format(msgspec.json.encode(built), indent=2))


def built(folder: Path) -> Built:
    """Return what was recorded when the build was finished; without a digest of files if it cannot be
    read."""
    try:
        return msgspec.json.decode((folder / BUILT).read_bytes(), type=Built)
    except (OSError, msgspec.MsgspecError):
        return Built(name="", identity="", files="", steps={}, host="", built_at=0)


def intact(folder: Path) -> bool:
    """Return whether the files are those that were built."""
    return built(folder).files == manifest.digest(manifest.manifest(folder))


def has_gpu() -> bool:
    """Return whether this machine shows an NVIDIA GPU."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def _passed_elsewhere(tools: Tools, folder: Path, name: str, _check: Check) -> CheckResult:
    """Return how a check went on a node with a GPU: the proof holds, if it is of these files and checks."""
    try:
        before = msgspec.json.decode((folder / READY).read_bytes(), type=Ready)
    except (OSError, msgspec.MsgspecError):
        before = None
    if before and before.digest == environments.digest(tools.environment) and name in before.checks:
        return before.checks[name]
    raise tools.failure(
        f"it is built, but check '{name}' needs a GPU, which this machine has not: "
        f"`ddqjobs env verify {tools.environment.name} --on-node --gpus 1 --site SITE`"
    )


def _compare_files(tools: Tools, folder: Path) -> None:
    tools.say("comparing its files with what was built")
    now = manifest.manifest(folder)
    if manifest.digest(now) != built(folder).files:
        before = (folder / FILES).read_text(encoding="utf-8") if (folder / FILES).exists() else ""
        differences = manifest.differences(before, now) or ["their list is damaged"]
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise tools.failure(
            f"files are not those that were built: {', '.join(differences[:3])}{more}; "
            f"`ddqjobs env build {tools.environment.name}` builds anew"
        )


def _inventory(tools: Tools, folder: Path) -> tuple[str, dict[str, str]]:
    """Python and packages as the environment itself sees them; both must be what was declared. What steps
    with a command install (a code tree) is in no lock."""
    doing = "comparing packages with the lock"
    argv = [str(folder / "bin" / "python"), "-I", "-c", _INVENTORY]
    done = tools.run(argv, doing, tools.job_variables(folder), timeout=300)
    tools.require(done, doing)
    inventory = json.loads(done.stdout.splitlines()[-1])
    python: str = inventory["python"]
    declaration = tools.environment.declaration
    if python != declaration.python and not python.startswith(f"{declaration.python}."):
        raise tools.failure(f"its Python is {python}, not {declaration.python}")
    packages = {environments.normal(name): version for name, version in inventory["packages"].items()}
    locked = environments.pins(tools.environment.lock)
    free = any(step.command for step in declaration.steps.values())
    wrong = [
        f"{name} {packages.get(name, 'missing')} instead of {locked.get(name, 'none')}"
        for name in sorted(locked.keys() if free else packages.keys() | locked.keys())
        if packages.get(name) != locked.get(name)
    ]
    if wrong:
        raise tools.failure(f"the packages are not those of the lock: {', '.join(wrong)}")
    return python, dict(sorted(packages.items()))


def _check(tools: Tools, folder: Path, name: str, check: Check) -> CheckResult:
    """Runs one check. It sees a copy of its declared files and nothing else of ddqjobs: so what its digest
    covers is all that it is.

    What it imports is compiled to bytecode by the way: a quarter of the time that compiling everything takes.
    """
    doing = f"check '{name}'"
    tools.step_log(f"check-{name}")
    with temporary(tools.base_dir) as code:
        for relative, path in tools.environment.check_files:
            target = code / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        variables = tools.job_variables(folder)
        own = variables.get("PYTHONPATH")
        variables["PYTHONPATH"] = f"{code}:{own}" if own else str(code)
        argv = [str(folder / "bin" / "python"), *check.command]
        started = time.monotonic()
        done = tools.run(argv, doing, variables, timeout=seconds(check.timeout), cwd=code)
    tools.require(done, doing)
    output = done.stdout.strip()[-4000:]
    return CheckResult(seconds=round(time.monotonic() - started, 3), output=output)
