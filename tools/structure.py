#!/usr/bin/env python3
"""Print how the package is built, as a Markdown table: sizes, complexity, arrows, docstrings.

    tools/structure.py [FOLDER] [--base REV ...]

FOLDER is a checkout, by default this one; ``--base`` adds a column for each revision of it, before its own.
Functions are counted with what is inside them; complexity is McCabe's, as ruff's C901 counts it. A folder
below ``ddqjobs/`` counts as one package, and the modules directly in it as another. An arrow is a package
that imports another one, in functions and for annotations too; it points the wrong way if the layers of the
checkout's import contracts (pyproject.toml) have the importer below. Standard library only.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, *FUNCTIONS)
LIMIT = 10  # of complexity
QUESTION = re.compile(r"(What|Whether|How|Where|Why|Which|Who|When)\b")


@dataclass(frozen=True)
class Module:
    """A module's source, parsed."""

    name: str  # ddqjobs.spec.model
    lines: int
    tree: ast.Module
    package: bool  # an __init__.py

    @property
    def folder(self) -> str:
        """The folder directly below the package; empty for the modules in the package itself."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 2 or (self.package and len(parts) == 2) else ""

    def imports(self, known: Mapping[str, Module]) -> set[str]:
        """Return the names of the modules of ours that it imports."""
        names = {name for node in ast.walk(self.tree) for name in self._imported(node, known)}
        return (names & set(known)) - {self.name}

    def _imported(self, node: ast.AST, known: Mapping[str, Module]) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = self.name.split(".") if self.package else self.name.split(".")[:-1]
            above = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = {f"{module}.{alias.name}" for alias in node.names}
            yield from names & set(known)
            if not names <= set(known):  # something that is defined in the module itself
                yield module


def read(checkout: Path) -> dict[str, Module]:
    """Return all modules of a checkout's package by name."""
    root = checkout / "ddqjobs"
    modules = {}
    for path in sorted(root.rglob("*.py")):
        name = ".".join(("ddqjobs", *path.relative_to(root).with_suffix("").parts))
        text = path.read_text(encoding="utf-8")
        package = path.name == "__init__.py"
        name = name[: -len(".__init__")] if package else name
        modules[name] = Module(name, len(text.splitlines()), ast.parse(text), package)
    return modules


def complexity(function: Function) -> int:
    """Return one more than the number of a function's branches, nested functions' included."""
    inner = [node for node in ast.walk(function) if node is not function]
    cases = [case for node in inner if isinstance(node, ast.Match) for case in node.cases]
    wild = [c for c in cases if c.guard is None and isinstance(c.pattern, ast.MatchAs) and not c.pattern.name]
    orelse = [node for node in inner if isinstance(node, (ast.Try, ast.For, ast.While)) and node.orelse]
    tries = [node for node in orelse if isinstance(node, ast.Try)]
    return 1 + sum(isinstance(n, BRANCHES) for n in inner) + len(cases) - len(wild) + len(tries)


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that import each other, directly or by way of others."""
    reach = {name: _reachable(graph, name) for name in graph}
    sets: list[set[str]] = []
    for name in graph:
        circle = {other for other in reach[name] if name in reach[other]}
        if circle and not any(name in earlier for earlier in sets):
            sets.append(circle)
    return sets


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    modules: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in modules:
            modules.add(name)
            todo += graph[name]
    return modules


def arrows(modules: Mapping[str, Module], graph: Mapping[str, set[str]]) -> Counter[tuple[str, str]]:
    """Return (importing folder, imported folder) -> number of imports; `ddqjobs` itself is left out."""
    counts: Counter[tuple[str, str]] = Counter()
    for name, imported in graph.items():
        for other in imported - {"ddqjobs"}:
            pair = (modules[name].folder, modules[other].folder)
            if name not in ("ddqjobs", "ddqjobs.__main__") and pair[0] != pair[1]:
                counts[pair] += 1
    return counts


def layers(checkout: Path) -> list[str]:
    """Return the packages of the layers contract, top first; none where there is no contract."""
    text = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r'^type = "layers"$.*?^layers = \[(.*?)^\]', text, re.M | re.S)
    return re.findall(r'"([\w.]+)"', block[1]) if block else []


def wrong(counts: Mapping[tuple[str, str], int], order: Sequence[str]) -> list[tuple[str, str]]:
    """Return the arrows that go up in the layers; the module `project` counts as the folder of that name."""
    place = {name: number for number, name in enumerate(order)}
    place[""] = place.get("project", -1)
    return [(a, b) for a, b in counts if a in place and b in place and place[a] > place[b]]


def percentile(values: Sequence[int], share: float) -> int:
    """Return the value that ``share`` of them do not exceed."""
    return sorted(values)[max(0, round(share * len(values)) - 1)] if values else 0


def public(tree: ast.AST) -> Iterator[ast.AST]:
    """Return the public functions, methods and classes of a module, and the module."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from public(node)
            else:
                yield node


def measure(checkout: Path, order: Sequence[str]) -> dict[str, str]:
    """Return the rows of a checkout's column."""
    modules = read(checkout)
    graph = {name: module.imports(modules) for name, module in modules.items()}
    folders = Counter(module.folder for module in modules.values() if module.lines)
    lines = [module.lines for module in modules.values() if module.lines]
    nodes = [node for module in modules.values() for node in ast.walk(module.tree)]
    functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    hard = [complexity(node) for node in functions]
    classes = {
        c.name: sum(isinstance(n, FUNCTIONS) for n in c.body) for c in nodes if isinstance(c, ast.ClassDef)
    }
    crowded, busy = max(classes, key=classes.__getitem__), max(graph, key=lambda name: len(graph[name]))
    texts = [ast.get_docstring(n) for m in modules.values() if m.lines for n in public(m.tree)]  # type: ignore[arg-type]
    docstrings = [text for text in texts if text]
    counts = arrows(modules, graph)
    mutual = {frozenset(pair) for pair in counts if pair[::-1] in counts}
    largest = max(folders, key=lambda name: folders[name])
    return {
        "modules that are not empty": str(len(lines)),
        "folders below `ddqjobs/`": str(len([f for f in folders if f])),
        "modules directly in `ddqjobs/`": str(folders[""]),
        "modules in the largest folder": f"{folders[largest]} (`{largest or 'ddqjobs'}`)",
        "lines of a module: p90, largest": f"{percentile(lines, 0.9)}, {max(lines)}",
        "modules above 400 lines": str(sum(n > 400 for n in lines)),
        "lines of a function: median, p90, largest": (
            f"{percentile(lengths, 0.5)}, {percentile(lengths, 0.9)}, {max(lengths)}"
        ),
        "complexity of a function: p90, largest": f"{percentile(hard, 0.9)}, {max(hard)}",
        f"functions of complexity above {LIMIT}": str(sum(n > LIMIT for n in hard)),
        "methods of the largest class": f"{classes[crowded]} (`{crowded}`)",
        "modules of ours that one imports, at most": f"{len(graph[busy])} (`{busy}`)",
        "arrows between packages": str(len(counts)),
        "arrows that point the wrong way": str(len(wrong(counts, order))),
        "pairs of packages that import each other": str(len(mutual)),
        "circles of modules": str(len(circles(graph))),
        "public modules, classes, functions with a docstring": f"{len(docstrings)} of {len(texts)}",
        "docstrings that begin with What, Whether, How, ...": str(
            sum(bool(QUESTION.match(t)) for t in docstrings)
        ),
    }


def at(checkout: Path, revision: str, order: Sequence[str]) -> dict[str, str]:
    """Return the rows of another revision of a checkout. Raises CalledProcessError if there is none."""
    argv = ["git", "-C", str(checkout), "archive", "--format=zip", revision, "ddqjobs"]
    archive = subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            file.extractall(folder)
        return measure(Path(folder), order)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--base", action="append", default=[], metavar="REV")
    args = parser.parse_args(argv)
    order = layers(args.folder)
    try:
        columns = {revision: at(args.folder, revision, order) for revision in args.base}
    except subprocess.CalledProcessError:
        return 2  # git has said why
    columns["now"] = measure(args.folder, order)
    print("| |", " | ".join(columns), "|")
    print("|---|" + "---:|" * len(columns))
    for row in columns["now"]:
        print(f"| {row} |", " | ".join(column[row] for column in columns.values()), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
