"""A YAML file and the files it inherits -> a validated msgspec Struct that knows where its parts stand.

::

    text ─ nodes.read ─ merge with base ─ checker.Checker ─ msgspec.convert ─ Document

``base: other`` at the top level inherits: mappings merge key by key, everything else is replaced, a key of
the base set to null is removed. Every problem of all files is reported at once, one line each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from msgspec import inspect

from ddqjobs.base.errors import MOST_PROBLEMS, DdqjobsError, InputError, Problem, nearest_word
from ddqjobs.base.files import read as read_file
from ddqjobs.spec.checker import Checker, TooManyProblems, found_words
from ddqjobs.spec.inheritance import merged
from ddqjobs.spec.nodes import Node, read
from ddqjobs.spec.sections import Kinds, expanded

T = TypeVar("T", bound=msgspec.Struct)

_LIMIT = 8 << 20  # bytes of a file that a person wrote

ReadBase = Callable[[str, str], tuple[str, str]]
"""(what `base:` says, name of the file that says it) -> (name, text) of the base; raises DdqjobsError."""


@dataclass(frozen=True)
class Document(Generic[T]):
    """``value`` is what the files say; ``files`` those that were read, the base first."""

    value: T
    files: tuple[Path, ...]
    root: Node
    bases: Mapping[str, Node] = field(default_factory=dict)  # file -> the tree of all that it inherits

    def line_of(self, path: tuple[str | int, ...]) -> tuple[str, int]:
        """File and line of the key (or list element) at ``path``, or of its nearest existing ancestor."""
        node = self.root
        for part in path:
            child = node.child(part)
            if child is None:
                break
            node = child
        return node.file, node.line


def load(
    path: Path,
    kind: type[T],
    resolve: Callable[[str, Path], Path],
    examine: Callable[[Document[T]], list[Problem]] | None = None,
    sections: Kinds | None = None,
) -> Document[T]:
    """Reads a file. ``resolve`` finds a base by its name and the path of the file that names it; ``examine``
    finds what is wrong beyond types, also in a file whose unknown keys are problems already; ``sections``
    says which schedulers have a section there (without it these are not looked at, and left out).

    Raises :class:`InputError` with all problems; a base that cannot be found or read is one of them.
    """
    paths: dict[str, Path] = {}

    def name_and_text(file: Path) -> tuple[str, str]:
        name = display(file)
        paths[name] = file
        return name, _read_text(file, name)

    def read_base(base: str, named_by: str) -> tuple[str, str]:
        return name_and_text(resolve(base, paths[named_by]))

    name, text = name_and_text(path)
    document = parse(text, name, kind, read_base, examine, sections)
    return replace(document, files=tuple(paths[str(file)] for file in document.files))


def parse(
    text: str,
    file_name: str,
    kind: type[T],
    read_base: ReadBase,
    examine: Callable[[Document[T]], list[Problem]] | None = None,
    sections: Kinds | None = None,
) -> Document[T]:
    """The same for text. Pure but for ``read_base``, which a file without ``base:`` never calls."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    keys = set(expanded(fields, sections or {}))
    inherits = "base" in keys
    trees, problems, whole = _chain(text, file_name, read_base if inherits else None)
    whole = whole and not (inherits and _misspells_base(trees[0], keys))
    root, bases = merged(trees)
    checker = Checker(partial=not whole, bases=bases, sections=sections)
    document: Document[T] | None = None
    try:
        data = checker.check(root, _types(kind), ())
        value = msgspec.convert(data, kind, strict=True)
        document = Document(value, tuple(Path(tree.file) for tree in trees), root, bases)
    except TooManyProblems:
        pass
    except msgspec.ValidationError as error:
        if not (problems or checker.problems):  # a __post_init__ refused: the walk knows nothing of those
            problems.append(Problem(root.file, root.line, str(error)))
    problems += checker.problems
    if document is not None and whole and examine is not None:
        problems += examine(document)
    if document is None or problems:
        # The user's own file first: what does not fit in a base is often what follows.
        raise InputError(sorted(set(problems), key=lambda problem: (problem.file != root.file, problem)))
    return document


@functools.cache
def _types(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _chain(text: str, file_name: str, read_base: ReadBase | None) -> tuple[list[Node], list[Problem], bool]:
    """The trees of a file and its bases, the last base first; their problems; whether all could be read."""
    tree, problems = _read_mapping(text, file_name)
    trees = [tree]
    while read_base is not None and (named := _base_of(trees[0])) is not None:
        try:
            name, text = read_base(str(named.value), trees[0].file)
            files = [tree.file for tree in trees]
            if name in files:
                circle = " -> ".join([*reversed(files), name])
                raise InputError(
                    f"the files inherit in a circle: {circle}; name another base in one of them, or rename "
                    "the file of the project that replaces a shipped one"
                )
            tree, more = _read_mapping(text, name)
        except DdqjobsError as error:
            inner = error.problems if isinstance(error, InputError) else ()
            problems += inner or [Problem(named.file, named.line, f"base: {error}")]
            return trees, problems, False
        trees.insert(0, tree)
        problems += more
    return trees, problems, True


def _base_of(tree: Node) -> Node | None:
    """The value of `base:` if it names one. A base that is not text is left to the check of types."""
    named = tree.value.get("base") if isinstance(tree.value, dict) else None
    return named if named is not None and isinstance(named.value, str) else None


def _misspells_base(tree: Node, keys: Collection[str]) -> bool:
    """Return whether a file without base has an unknown key that was probably meant to be `base`: whatever
    else is missing in it would come from there."""
    if not isinstance(tree.value, dict):
        return False
    if "base" in tree.value:
        return tree.value["base"].bad
    unknown = tree.value.keys() - set(keys)
    return len(unknown) <= MOST_PROBLEMS and any(nearest_word(key, keys) == "base" for key in unknown)


def _read_mapping(text: str, name: str) -> tuple[Node, list[Problem]]:
    tree, problems = read(text, name)
    if isinstance(tree.value, dict):
        return tree, problems
    message = f"the file must be a mapping (key: value), not {found_words(tree)}"
    raise InputError([*problems, Problem(name, tree.line, message)])


def display(path: Path) -> str:
    """The path as a reader at this working directory would type it."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def _read_text(path: Path, name: str) -> str:
    try:
        data = read_file(path, _LIMIT)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 text (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        raise InputError([Problem(name, line, message)]) from error
