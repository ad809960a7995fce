"""Records, when a program of an attempt ends, which files its modules came from.

A snapshot of the code has this file as ``sitecustomize.py`` too, so that every Python that finds the
snapshot begins with it; a ``sitecustomize`` of the environment runs after it. Each program leaves
``loaded.<host>.<pid>.txt`` in the attempt's folder, a path per line, if it loaded more than the standard
library: of several ranks each. :func:`collect` makes one ``loaded.txt`` of them. A program that is killed
leaves nothing. Standard library only.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Sequence

_OURS = ("check", "launch", "meet", "product", "proof", "stage", "tree", "watchdog")
_AROUND = tuple(f"ddqjobs.detect.{name}" for name in _OURS)


def watch(variables: Mapping[str, str] = os.environ) -> None:
    """Record at the end of this program, if it is one of an attempt's."""
    attempt = variables.get("DDQJOBS_ATTEMPT_DIR", "")
    if attempt:
        atexit.register(_leave, Path(attempt))


def _leave(attempt: Path) -> None:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if getattr(spec, "name", "") in _AROUND:
        return
    library = os.path.dirname(os.__file__)
    places = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    # torch.ops and torch.classes are objects among the modules, "_ops.py" their file: no path, no file.
    files = (place for place in places if isinstance(place, str) and os.path.isabs(place))
    paths = sorted(path for path in files if not _of_library(path, library))
    try:
        if paths:
            place = attempt / f"loaded.{os.uname().nodename}.{os.getpid()}.txt"
            place.write_text("\n".join(paths) + "\n", encoding="utf-8")
    except (OSError, UnicodeError):
        pass  # the record is not worth an attempt


def _of_library(path: str, library: str) -> bool:
    return path.startswith(library + os.sep) and "site-packages" not in path and "dist-packages" not in path


def collect(attempt: Path, known: Sequence[str], tree: str = "") -> dict[str, object]:
    """Make one file of what the attempt's programs left: how many files they loaded, the first of those that
    lie below none of the ``known`` folders, and of these the first that the environment has, too, and which
    packages of the code ``tree`` were loaded from elsewhere; empty if nothing was recorded."""
    paths = set()  # type: set[str]
    parts = sorted(attempt.glob("loaded.*.txt"))
    for part in parts:
        paths.update(part.read_text(encoding="utf-8").splitlines())
    if not parts:
        return {}
    (attempt / "loaded.txt").write_text("\n".join(sorted(paths)) + "\n", encoding="utf-8")
    for part in parts:
        part.unlink()
    roots = [os.path.realpath(root) + os.sep for root in known if root]
    foreign = [path for path in sorted(paths) if not os.path.realpath(path).startswith(tuple(roots))]
    return {
        "files": len(paths),
        "foreign": foreign[:10],
        "instead": list(itertools.islice(_instead(foreign, known), 10)),
        "hidden": _hidden(Path(tree), paths) if tree else [],
    }


def _instead(foreign: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    """Yield the files of which a folder of packages below the ``known`` ones has its own: a copy of another
    place was loaded, by another interpreter or by ``sys.path``."""
    packages = [path for root in known if root for path in Path(root).glob("lib/python*/site-packages")]
    for path in foreign:
        end = _below_packages(path)
        if any((folder / end).is_file() for folder in packages):
            yield path


def _below_packages(path: str) -> str:
    """Return a module's file below the folder that was searched for it: that of its outermost package, or
    its own. A project's ``tests/utils.py`` is no copy of a package that has another ``utils.py``."""
    folder = Path(path).parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return os.path.relpath(path, str(folder))


def _hidden(tree: Path, paths: Iterable[str]) -> list[str]:
    """Return the modules at the root of a code tree of which an installed copy was loaded instead: a program
    in a folder of its own, like tools/train.py, does not find what is beside that folder by itself."""
    own = {path.name for path in tree.glob("*.py")} | {
        os.path.join(path.parent.name, path.name) for path in tree.glob("*/__init__.py")
    }
    here = os.path.realpath(str(tree)) + os.sep
    elsewhere = {path for path in map(os.path.realpath, paths) if not path.startswith(here)}
    installed = {name for path in elsewhere for name in own if path.endswith(_places(name))}
    return sorted(os.path.dirname(name) or name[: -len(".py")] for name in installed)


def _places(name: str) -> tuple[str, ...]:
    return tuple(os.sep.join(("", folder, name)) for folder in ("site-packages", "dist-packages"))


def _go_on() -> None:
    """Run the ``sitecustomize`` that the environment may have, which this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in sys.path:
        path = os.path.join(folder, "sitecustomize.py")
        if os.path.abspath(folder) != here and os.path.isfile(path):
            with open(path, encoding="utf-8") as stream:
                exec(compile(stream.read(), path, "exec"), {"__name__": "sitecustomize", "__file__": path})
            return


if __name__ == "sitecustomize":
    watch()
    _go_on()
