"""Find ``experiments/``, ``templates/`` and ``envs/``: in the project's folder, then in what ships.

A project may override any shipped file by a file with the same relative path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ddqjobs.base.errors import InputError
from ddqjobs.base.paths import PACKAGE
from ddqjobs.base.text import clean


def shipped_root() -> Path:
    """The folder that holds what ships: beside the package in a checkout, inside it in a wheel."""
    package = PACKAGE
    inside = package / "shipped_files"
    return inside if inside.is_dir() else package.parent


EXPERIMENTS, SITES, ENVIRONMENTS = "experiments/*.yaml", "templates/*/site.yaml", "envs/*/env.yaml"


class Files:
    """Looks up relative paths in the project's folder first and in what ships second."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.roots: tuple[Path, ...] = tuple(dict.fromkeys((project.resolve(), shipped_root())))

    def find(self, relative: str) -> Path | None:
        """The overriding path of ``relative``, or None if there is no such file or folder."""
        for root in self.roots:
            if (root / relative).exists():
                return root / relative
        return None

    def names(self, pattern: str) -> dict[str, Path]:
        """Stem (or folder name) -> path of everything that matches the glob, project first, sorted."""
        paths: dict[str, Path] = {}
        for root in self.roots:
            for path in sorted(root.glob(pattern)):
                paths.setdefault(path.parent.name if path.stem in ("site", "env") else path.stem, path)
        return dict(sorted(paths.items()))

    def misnamed(self, pattern: str, name: str) -> str:
        """Return, for the end of an error, that a file that ``pattern`` would find by this name ends in .yml,
        which nothing reads; empty if none does."""
        path = self.names(pattern.removesuffix(".yaml") + ".yml").get(name)
        return f"; {clean(str(path.relative_to(self.roots[0])))} must end in .yaml" if path else ""

    def inside(self, path: Path) -> Path:
        """Return the path of a file that was found by its name. Raise InputError if it is a link out of the
        project: a file of somebody else's must not show the lines of a private one."""
        real = Path(os.path.realpath(path))
        if any(real.is_relative_to(os.path.realpath(root)) for root in self.roots):
            return path
        shown = path.relative_to(self.roots[0]) if path.is_relative_to(self.roots[0]) else path
        raise InputError(
            f"{shown}: cannot be read: a link that leads out of the project; copy the file into it"
        )

    def tree(self, relative: str) -> Iterator[tuple[str, Path]]:
        """(path below ``relative``, file) of every file there, overridden ones once, sorted."""
        seen: dict[str, Path] = {}
        for root in self.roots:
            base = root / relative
            for path in base.rglob("*") if base.is_dir() else ():
                if path.is_file() and "__pycache__" not in path.parts:
                    seen.setdefault(path.relative_to(base).as_posix(), path)
        yield from sorted(seen.items())

    def own_templates(self) -> list[str]:
        """Return the relative paths of the templates that the project brings: they write its job scripts, in
        place of those that ship."""
        own = self.roots[0]
        if len(self.roots) == 1:  # a checkout of ddqjobs
            return []
        return sorted(str(path.relative_to(own)) for path in (own / "templates").rglob("*.j2"))
