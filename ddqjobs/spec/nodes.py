"""YAML text -> a tree of :class:`Node` that remembers where everything was written.

Built from PyYAML's events and not with ``yaml.compose``: libyaml's composer recurses in C and dies of deep
nesting, and composing costs three times the time. Plain scalars are read as YAML 1.1 reads them (so that
editors and other tools agree), except where that surprises: ``1e-4`` is a number, ``1:30`` and
``2024-01-01`` are text, and ``010`` is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import yaml

from ddqjobs.base.errors import InputError, Problem

Value: TypeAlias = "dict[str, Node] | list[Node] | str | int | float | bool | None"
Path: TypeAlias = tuple[str | int, ...]  # keys and indices from the top

MAX_DEPTH = 100
MAX_NODES = 300_000  # after the expansion of aliases: nine lines of YAML can stand for 10**9 nodes

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{form: True for word in ("true", "yes", "on") for form in (word, word.title(), word.upper())},
    **{form: False for word in ("false", "no", "off") for form in (word, word.title(), word.upper())},
}
_NUMBER_START = frozenset("+-.0123456789")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,40}|0x[0-9a-fA-F_]{1,40}|0b[01_]{1,80})")
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)"
)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(slots=True)
class Node:
    """A value and where it stands: the line of its key, or its own as an element of a list.

    ``raw`` is a scalar's text as written; ``size`` the number of nodes below and with this one; ``bad``
    marks a scalar without a meaning, which is a reported problem already. ``removed`` has the keys of a base
    that a mapping laid on it takes away, with where it says so.
    """

    value: Value
    file: str
    line: int
    raw: str = ""
    size: int = 1
    bad: bool = False
    removed: dict[str, Node] | None = None

    def child(self, part: str | int) -> Node | None:
        """The entry of a mapping or the element of a list, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def below(self, path: Path) -> Node | None:
        """The node at ``path`` seen from here, if there is one."""
        node: Node | None = self
        for part in path:
            node = node.child(part) if node is not None else None
        return node


class _Refused(Exception):
    """Ends the reading of a file at its first unreadable place."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read(text: str, file: str) -> tuple[Node, list[Problem]]:
    """The tree of one YAML document and what is wrong with its keys and scalars, one by one.

    Raises :class:`InputError` with all of that and the place where the text stops being YAML.
    """
    reader = _Reader(text, file)
    try:
        return reader.document(), reader.problems
    except _Refused as refused:
        reader.problem(refused.line, str(refused))
    except yaml.YAMLError as error:
        reader.problems.append(_syntax_problem(error, text, file))
    raise InputError(sorted(reader.problems))


class _Reader:
    """One pass over the events of one file."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.merged = 0  # entries taken by << so far
        self.anchors: dict[str, Node | None] = {}  # None while the anchored node is still open
        self.events = cast("Iterator[Any]", yaml.parse(text, Loader=_LOADER))

    def problem(self, line: int, message: str) -> None:
        self.problems.append(Problem(self.file, line, message))

    def document(self) -> Node:
        next(self.events)  # start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise _Refused(1, "the file is empty")
        root = self.node(next(self.events), 0)
        next(self.events)  # end of the document
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _Refused(after.start_mark.line + 1, "a second document (---) begins here; one is allowed")
        if root.value is None:
            raise _Refused(1, "the file is empty")
        return root

    def node(self, event: Any, depth: int, line: int = 0) -> Node:
        """The node that begins with ``event``. ``line`` is its key's; without a key its own counts."""
        line = line or event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            return self.alias(str(event.anchor), line)
        anchor: str | None = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event, line)
        elif depth > MAX_DEPTH:
            raise _Refused(line, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, depth, line)
        else:
            node = self.mapping(event, depth, line)
        if anchor is not None:
            self.anchors[anchor] = node
        if node.size > MAX_NODES:
            raise _Refused(line, f"more than {MAX_NODES} values, aliases (*name) expanded")
        return node

    def alias(self, name: str, line: int) -> Node:
        if name not in self.anchors:
            raise _Refused(line, f"unknown alias *{name}: no &{name} before it")
        node = self.anchors[name]
        if node is None:
            raise _Refused(line, f"alias *{name} stands inside what it refers to")
        return Node(node.value, node.file, line, node.raw, node.size, node.bad)

    def sequence(self, event: Any, depth: int, line: int) -> Node:
        self.refuse_tag(event, "seq")
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, depth + 1))
        return Node(items, self.file, line, "", 1 + sum(item.size for item in items))

    def mapping(self, event: Any, depth: int, line: int) -> Node:
        self.refuse_tag(event, "map")
        entries: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key_line = event.start_mark.line + 1
            key = self.key(event, key_line)
            if key == "<<" and event.implicit[0]:
                self.merge_key(self.node(next(self.events), depth + 1, key_line), merged)
                continue
            if key in entries:
                self.problem(key_line, f"key '{key}' is given twice (first in line {entries[key].line})")
            entries[key] = self.node(next(self.events), depth + 1, key_line)
        if merged:
            entries = {**merged, **entries}
        return Node(entries, self.file, line, "", 1 + sum(entry.size for entry in entries.values()))

    def merge_key(self, node: Node, merged: dict[str, Node]) -> None:
        """Takes the mapping (or list of mappings, the first wins) of a ``<<`` key into ``merged``."""
        for source in node.value if isinstance(node.value, list) else [node]:
            if not isinstance(source.value, dict):
                raise _Refused(node.line, "'<<' takes a mapping or a list of mappings")
            self.merged += len(source.value)
            if self.merged > MAX_NODES:
                raise _Refused(node.line, f"'<<' takes more than {MAX_NODES} entries in this file")
            for key, value in source.value.items():
                merged.setdefault(key, value)

    def key(self, event: Any, line: int) -> str:
        """The text of a key. Numbers keep their text; what YAML reads as true, false or null is refused."""
        if not isinstance(event, yaml.ScalarEvent):
            raise _Refused(line, "a key must be text")
        text = event.value
        if "\0" in text:
            raise _Refused(line, "a key may not contain the character NUL")
        if event.implicit[0] and text in CONSTANTS:
            meaning = {True: "true", False: "false", None: "null"}[CONSTANTS[text]]
            self.problem(line, f"YAML reads the key '{text}' as {meaning}; put it in quotes")
        return text

    def scalar(self, event: Any, line: int) -> Node:
        text = cast("str", event.value)
        plain = event.implicit[0]
        if event.tag is not None:
            self.refuse_tag(event, "str", "int", "float", "bool", "null")
            plain = event.tag not in (_TAG + "str", "!")
        try:
            if "\0" in text:
                raise ValueError("text may not contain the character NUL")
            return Node(plain_value(text) if plain else text, self.file, line, text)
        except ValueError as error:
            self.problem(line, str(error))
            return Node(None, self.file, line, text, bad=True)

    def refuse_tag(self, event: Any, *allowed: str) -> None:
        if event.tag not in (None, "!", *(_TAG + name for name in allowed)):
            tag = str(event.tag).replace(_TAG, "!!")
            self.problem(event.start_mark.line + 1, f"the tag {tag} is not allowed here")


def plain_value(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means. Raise :class:`ValueError` for one that needs quotes or another
    form."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INT.fullmatch(text):
        try:
            return int(text, 0)
        except ValueError:  # 1_ and 1__0, which YAML allows
            return int(text.replace("_", ""), 0)
    if _OCTAL.fullmatch(text):
        value = int(text.replace("_", ""), 8)
        raise ValueError(f"YAML reads {text} as the octal number {value}; write {value}, or put it in quotes")
    if _FLOAT.fullmatch(text):
        number = float(text.replace("_", ""))
        if math.isfinite(number):
            return number
    elif not _NOT_FINITE.fullmatch(text):
        return text
    raise ValueError(f"{text} is not a finite number; put it in quotes if it is text")


def plain(node: Node) -> object:
    """The node as dictionaries, lists and scalars."""
    if isinstance(node.value, dict):
        return {key: plain(entry) for key, entry in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    """PyYAML's complaint in one line, with the two commonest causes said in words."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Problem(file, line, f"character U+{int(error.character):04X} is not allowed in YAML")
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else 1
    lines = text.splitlines()
    source = lines[line - 1] if line <= len(lines) else ""
    if "\t" in source[: len(source) - len(source.lstrip())]:
        return Problem(file, line, "a tab in the indentation; YAML allows spaces only")
    what = getattr(error, "problem", None) or str(error)
    if "maximum nesting depth" in what:  # libyaml has a limit of its own, and stops before ours is reached
        return Problem(file, line, f"nested deeper than {MAX_DEPTH} levels")
    context = getattr(error, "context", None)
    where = getattr(error, "context_mark", None)
    if context and "next token" not in context:
        what += f" {context}" + (f" that begins in line {where.line + 1}" if where is not None else "")
    if "cannot start any token" in what and mark is not None and mark.column < len(source):
        what = f"text may not begin with {source[mark.column]!r}; put it in quotes"
    elif "mapping values are not allowed" in what:
        what = "a ': ' where no key can stand; check the indentation, or put the text in quotes"
    return Problem(file, line, "not valid YAML: " + " ".join(what.split()))
