"""Read from a Python file's syntax which modules it builds on besides its configurations and task code. Pure.

They come from the environment, whose lock has a part of the digest of its own, or from a code's tree, which
has one too. What comes from neither is in no digest.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_OPTION = re.compile(r"\+?custom_imports(?:\.imports(?:\.\d+)?)?=(.*)", re.DOTALL)
_FOLLOWED = re.compile(r"(?:ddqjobs\.detect|configs)(?:\.|$)")
_WORDS = frozenset(
    {"imports", "custom_imports", "allow_failed_imports", "True", "False", "None"}
)  # in such an assignment, and no module
# Modules that are not called as their packages are.
_CALLED = {
    **{"cv2": "opencv", "PIL": "pillow", "yaml": "pyyaml", "skimage": "scikit-image"},
    **{"sklearn": "scikit-learn", "dateutil": "python-dateutil", "pkg_resources": "setuptools"},
}


class Outside(NamedTuple):
    """A module that a file imports or names: the place in words, and whether ``custom_imports`` names it."""

    module: str
    place: str
    custom: bool


def outside(tree: ast.Module) -> tuple[Outside, ...]:
    """Return the modules that a configuration or a module of the project builds on, each once."""
    modules: dict[tuple[str, bool], Outside] = {}
    for module, line, custom in _named(tree):
        if not _FOLLOWED.match(module) and module.partition(".")[0] not in sys.stdlib_module_names:
            statement = (
                f"custom_imports names {module or 'what is computed'}" if custom else f"imports {module}"
            )
            modules.setdefault((module, custom), Outside(module, f"line {line}: {statement}", custom))
    return tuple(sorted(modules.values()))


def of_words(arguments: Sequence[str]) -> tuple[Outside, ...]:
    """Return the modules that a command line's words have a program import: ``custom_imports.imports=[a.b]``,
    and what follows ``--imports``."""
    modules = []
    follows = False
    for word in arguments:
        option = _OPTION.fullmatch(word) if "custom_imports" in word else None
        follows = word == "--imports" or (follows and not word.startswith("-"))
        if option or (follows and word != "--imports"):
            names = re.findall(rf"(?<![\w.]){_NAME}", option[1] if option else word)
            modules += [n for n in names if not _FOLLOWED.match(n) and n not in _WORDS]
    return tuple(Outside(name, f"its command imports {name}", custom=True) for name in dict.fromkeys(modules))


def known(module: str, *, packages: Iterable[str], folder: Path | None, tree: Path | None) -> bool:
    """Return whether a module comes from the environment or from the code's tree: by the names in the
    ``packages`` of the lock, or by what lies in the environment's ``folder`` and in the ``tree``."""
    top = module.partition(".")[0]
    if not top:
        return False
    if tree is not None and _lies_in(tree, top):
        return True
    if folder is not None and any(_lies_in(site, top) for site in folder.glob("lib/python3*/site-packages")):
        return True
    name = _CALLED.get(top, top.lower().replace("_", "-"))
    return any(package == name or package.startswith(f"{name}-") for package in packages)


def _lies_in(folder: Path, top: str) -> bool:
    return (folder / top).is_dir() or (folder / f"{top}.py").is_file() or any(folder.glob(f"{top}.*.so"))


def _named(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Yield each module with its line, and whether ``custom_imports`` names it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, node.lineno, False
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(_is_custom(target) for target in targets):
                parts = list(ast.walk(node.value))
                yield from ((name, node.lineno, True) for name in _texts(parts))
                if any(map(_is_computed, parts)):
                    yield "", node.lineno, True


def _is_custom(target: ast.expr) -> bool:
    """Tell ``custom_imports`` and ``custom_imports["imports"]``, also of another name with this key."""
    return "custom_imports" in ast.unparse(target)


def _texts(parts: Iterable[ast.AST]) -> Iterator[str]:
    """Yield each text in an expression that may be a module's name."""
    for part in parts:
        text = part.value if isinstance(part, ast.Constant) else None
        if isinstance(text, str) and re.fullmatch(_NAME, text) and text not in _WORDS:
            yield text


def _is_computed(part: ast.AST) -> bool:
    """Tell what may stand for a name that the expression does not spell out."""
    if isinstance(part, ast.BinOp):
        return any(isinstance(side, ast.Constant) for side in (part.left, part.right))
    name = part.id if isinstance(part, ast.Name) else "dict"
    return isinstance(part, ast.JoinedStr) or name not in ("dict", "_base_")
