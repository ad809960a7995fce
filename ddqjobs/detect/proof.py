"""Proves, before the work of an attempt begins, that its Python is the environment's, and records what it is.

    python -m ddqjobs.detect.proof

Called by the launch script in the task's own variables and folder, by the interpreter of the task. It leaves
``proof.json`` in the attempt's folder (docs/reference/job-contract.md): the packages with versions and
places, the code snapshot, the machine, the variables that steer numbers. It ends with exit code 69 and one
line that names the path, if the snapshot is not what was submitted, or an input not what its run left, and
where the environment has a lock, if

* a package of the lock is missing, of another version, or comes from elsewhere; or one is not in the lock;
* ``sys.path`` has a folder with modules that is not the interpreter's, the environment's or the code's,
  wherever it came from (``PYTHONPATH``, a ``.pth`` file, a hook);
* a hook of ``site`` (``sitecustomize``, ``usercustomize``) lies elsewhere;
* a file of the environment was changed or added since it was built.

Files are looked at for a third of a second, folders at the top first, and those that were touched since then
are compared for as long, the last touched first; ``files`` says how many. Standard library only.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import sysconfig
import time
from collections import deque
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from . import files
from .job import exit_codes, installed, machine, snapshot, steering, upstream

_BUDGET_S = 0.3  # for looking for files that were touched, and again for comparing them
_CODE = (".py", ".so", ".pth", ".pyc")  # what an import can load or run
# What a product names.
_NAMED = (
    "torch", "torchvision", "triton", "numpy", "mmengine", "mmcv", "mmcv-full", "mmcv-lite", "mmdet",
    "pycocotools",
)  # fmt: skip
_OF_RECORD = ("environment", "locked", "python", "cuda", "code", "roots", "built")
_OF_MACHINE = ("processor", "instructions", "threads", "gpus", "driver")


class Package(NamedTuple):
    """An installed package, by its metadata."""

    name: str
    version: str
    place: str  # the folder on sys.path


class Lock(NamedTuple):
    """The description of the environment by the submission."""

    environment: str
    folder: str
    packages: Mapping[str, str]
    free: bool  # steps install more than the lock names


def main(variables: Mapping[str, str] = os.environ) -> int:
    """Prove and record; see the module."""
    began = time.monotonic()
    lock = _lock(variables)
    packages = list(_packages(sys.path))
    code = Path(os.path.realpath(variables.get("DDQJOBS_CODE", "")))
    called = upstream.called(Path(variables["DDQJOBS_RUN_DIR"]))
    problem = snapshot.problem(code, called) or inputs_problem(variables)
    compared = {}  # type: dict[str, Any]
    if lock is not None:
        problem = problem or next(_problems(lock, packages, variables), "")
        changed, compared = _files(lock)
        problem = problem or changed
    record = _record(variables, lock, packages)
    record.update(files=compared, problem=problem, seconds=round(time.monotonic() - began, 3))
    attempt = Path(variables["DDQJOBS_ATTEMPT_DIR"])
    if variables.get("DDQJOBS_NODE_RANK", "") in ("", "0") or problem:
        files.replace_json(attempt / "proof.json", record)
    if problem:
        of_inputs = problem.startswith("input ")
        said = problem if of_inputs else f"environment {record['environment'] or 'none'}: {problem}"
        print(said, flush=True)
        (attempt / "refused").write_text(_plain(said) + "\n", encoding="utf-8")
        return exit_codes.NO_ENVIRONMENT
    return 0


def inputs_problem(variables: Mapping[str, str]) -> str:
    """Return which input of the attempt is another file than it was; empty if there is none."""
    try:
        run = json.loads((Path(variables["DDQJOBS_ATTEMPT_DIR"]) / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return upstream.problem(Path(variables["DDQJOBS_RUN_DIR"]), run, variables)


def _submission(variables: Mapping[str, str]) -> Path:
    results = Path(variables["DDQJOBS_RUN_DIR"]).parent.parent
    return results / "submissions" / variables["DDQJOBS_TICKET"].rpartition(".")[0]


def summary(path: Path) -> dict[str, Any]:
    """Return what a product says of the attempt's proof (``ddqjobs.spec.model.Ran``), the ``roots`` of what
    it may load, and the folder of what was ``built``; empty without one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    packages = {}  # type: dict[str, str]
    for versions in record["packages"].values():
        for name in _NAMED:
            if name in versions:
                packages.setdefault(name, versions[name])
    # An attempt that an earlier version began recorded less.
    of_machine = {name: record["machine"][name] for name in _OF_MACHINE if name in record["machine"]}
    of_record = {name: record[name] for name in _OF_RECORD if name in record}
    return {**of_record, **of_machine, "packages": packages}


def _plain(text: str) -> str:
    """Return text that can stand in a JSON string as it is."""
    return re.sub(r'[\x00-\x1f"\\\x7f]', "?", text)


def _lock(variables: Mapping[str, str]) -> Lock | None:
    """Return what the submission froze of the environment; None where a site enters one of its own."""
    name = variables.get("DDQJOBS_ENVIRONMENT", "")
    try:
        said = json.loads((_submission(variables) / "locks.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # there is no lock, or a ddqjobs submitted that wrote none
        return None
    if name not in said:
        return None
    return Lock(name, said[name]["folder"], said[name]["packages"], said[name]["free"])


# --- packages


def _packages(path: Sequence[str]) -> Iterator[Package]:
    """Yield what is installed in the folders of ``sys.path``, in its order."""
    for folder in dict.fromkeys(path):
        for entry in _entries(folder):
            if not entry.endswith((".dist-info", ".egg-info")):
                continue
            place = os.path.join(folder, entry)
            for name in ("METADATA", "PKG-INFO", ""):
                metadata = _metadata(os.path.join(place, name) if name else place)
                if metadata is not None:
                    yield Package(metadata[0], metadata[1], folder)
                    break


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))
    except OSError:
        return []


def _metadata(path: str) -> tuple[str, str] | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            head = stream.read(4096)
    except OSError:
        return None
    name, version = (re.search(rf"^{key}: *(\S+)", head, re.MULTILINE) for key in ("Name", "Version"))
    if name is None or version is None:
        return None
    return name[1].lower().replace("_", "-").replace(".", "-"), version[1]


# --- what is wrong


def _problems(lock: Lock, packages: Sequence[Package], variables: Mapping[str, str]) -> Iterator[str]:
    ours = _roots(lock, variables)
    yield from _foreign_folders(ours)
    yield from _foreign_hooks(ours)
    own, code = _environment(lock), _code(variables)  # an environment may lie below the code's folder
    here = [package for package in packages if _below(package.place, own) or not _below(package.place, code)]
    first = {}  # type: dict[str, Package]
    for package in here:
        first.setdefault(package.name, package)
    for name, version in sorted(lock.packages.items()):
        first_package = first.get(name)
        if first_package is None:
            yield f"{name} {version} of the lock is missing in {sys.prefix}"
        elif first_package.version != version:
            yield f"{name} is {first_package.version} in {first_package.place}, and {version} in the lock"
    if not lock.free:
        for package in here:
            if package.name not in lock.packages:
                yield f"{package.name} {package.version} in {package.place} is not in the lock"


def _roots(lock: Lock, variables: Mapping[str, str]) -> list[str]:
    """Return the folders below which all is known: the environment, the snapshot, the code's tree."""
    return [*_environment(lock), *map(os.path.abspath, _code(variables))]


def _environment(lock: Lock) -> list[str]:
    folders = [os.path.abspath(path) for path in (sys.prefix, lock.folder)]
    return [*folders, *map(os.path.realpath, folders)]


def _code(variables: Mapping[str, str]) -> list[str]:
    """Return the snapshot of the code and the folder in which the task runs, which digests cover."""
    code = variables.get("DDQJOBS_CODE", "")
    return [path for path in (code, os.path.realpath(code), os.getcwd()) if path]


def _interpreter() -> list[str]:
    """Return the places of the standard library: these very folders, not what lies below them."""
    library = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    bases = {re.sub(f"^{re.escape(sys.prefix)}(?=/)", sys.base_prefix, path) for path in library if path}
    bases.update(path for path in library if path)
    word = "python{}{}.zip".format(*sys.version_info[:2])
    extra = {os.path.join(os.path.dirname(path), word) for path in bases}
    extra.update(os.path.join(path, "lib-dynload") for path in bases)
    return [os.path.realpath(path) for path in bases | extra]


def _below(path: str, roots: Sequence[str]) -> bool:
    whole = {os.path.abspath(path or "."), os.path.realpath(path or ".")}
    return any(one == root or one.startswith(root.rstrip("/") + "/") for one in whole for root in roots)


def _foreign_folders(ours: Sequence[str]) -> Iterator[str]:
    library = _interpreter()
    for entry in sys.path:
        if os.path.realpath(entry or ".") in library or _below(entry, ours):
            continue
        if not os.path.isdir(entry):
            modules = ["an archive"] if os.path.isfile(entry) else []
        else:
            modules = [name for name in _entries(entry) if _importable(entry, name)]
        if modules:
            by = _brought_by(entry)
            yield f"{entry} is on sys.path{by} and is not the environment's: it has {modules[0]}"


def _importable(folder: str, name: str) -> bool:
    return name.endswith((".py", ".so", ".pyc")) or os.path.isfile(os.path.join(folder, name, "__init__.py"))


def _brought_by(entry: str) -> str:
    """Return which variable or file put a folder on ``sys.path``, as words."""
    if entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        return " by PYTHONPATH"
    for folder in sys.path:
        for name in _entries(folder):
            if name.endswith(".pth"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8", errors="replace") as stream:
                    if entry in stream.read():
                        return f" by {path}"
    return ""


def _foreign_hooks(ours: Sequence[str]) -> Iterator[str]:
    for name in ("sitecustomize", "usercustomize"):
        module = sys.modules.get(name)
        place = getattr(module, "__file__", None)
        if (
            place
            and not _below(place, ours)
            and os.path.realpath(os.path.dirname(place)) not in _interpreter()
        ):
            yield f"{place} runs before every program and is not the environment's"


# --- files


def _files(lock: Lock) -> tuple[str, dict[str, Any]]:
    """Compare files that were touched since the build with what was built: (problem, how many of how many).

    A file's change of mode or links counts as touched too, so that no older time of change hides a change.
    """
    folder = installed.made(Path(lock.folder))
    try:
        digests = installed.listed(folder)
        built_at = json.loads((folder / "built.json").read_text(encoding="utf-8"))["built_at"]
    except (OSError, ValueError, KeyError):
        return "", {"compared": 0, "touched": 0, "looked": 0}
    end = time.monotonic() + _BUDGET_S
    looked: list[str] = []
    touched = sorted(_touched(folder, digests, built_at, end, looked), reverse=True)
    end = time.monotonic() + _BUDGET_S
    compared = 0
    problem = ""
    for _, _, relative in touched:
        if time.monotonic() > end or problem:
            break
        compared += 1
        word = "was added to" if relative not in digests else ""
        if not word and installed.digest(folder, relative) != digests[relative]:
            word = "is not what was built in"
        problem = f"{folder / relative} {word} the environment" if word else ""
    return problem, {"compared": compared, "touched": len(touched), "looked": len(looked)}


def _touched(
    folder: Path, digests: Mapping[str, str], built_at: float, end: float, looked: list[str]
) -> Iterator[tuple[bool, float, str]]:
    """Yield (surely edited, when, path) of code below ``lib`` that is new or was touched since the build, the
    folders at the top first, until the time ``end``. What was looked at is added to ``looked``."""
    start = len(str(folder)) + 1
    waiting = deque([str(folder / "lib")])
    while waiting and time.monotonic() < end:
        with os.scandir(waiting.popleft()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in installed.LEFT_OUT_FOLDERS:
                        waiting.append(entry.path)
                elif entry.name.endswith(_CODE) and entry.name not in installed.LEFT_OUT_FILES:
                    relative = entry.path[start:]
                    looked.append(relative)
                    state = entry.stat(follow_symlinks=False)
                    if relative not in digests:
                        yield True, state.st_ctime, relative
                    elif max(state.st_mtime, state.st_ctime) > built_at:
                        yield state.st_mtime > built_at, state.st_ctime, relative


# --- the record


def _record(variables: Mapping[str, str], lock: Lock | None, packages: Sequence[Package]) -> dict[str, Any]:
    places = {}  # type: dict[str, dict[str, str]]
    for package in packages:
        places.setdefault(package.place, {})[package.name] = package.version
    return {
        "environment": variables.get("DDQJOBS_ENVIRONMENT", ""),
        "locked": lock is not None,
        "python": platform.python_version(),
        "interpreter": sys.executable,
        "prefix": sys.prefix,
        "packages": places,
        "cuda": _cuda(),
        "built": str(installed.made(Path(lock.folder))) if lock is not None else "",
        "roots": [sys.prefix, os.path.realpath(sys.prefix), *_code(variables)],
        "code": os.path.basename(variables.get("DDQJOBS_CODE", "")),
        "machine": machine.describe(variables),
        "left_out": variables.get("DDQJOBS_LEFT_OUT", "").strip(),
        "variables": steering.recorded(variables),
    }


def _cuda() -> str:
    """Return the version of CUDA that torch was built for, read without importing torch."""
    for folder in sys.path:
        try:
            text = Path(folder, "torch", "version.py").read_text(encoding="utf-8")
        except OSError:
            continue
        match = re.search(r"^cuda\b[^=]*= *['\"]([^'\"]+)", text, re.MULTILINE)
        return match[1] if match else ""
    return ""


if __name__ == "__main__":
    sys.exit(main())
