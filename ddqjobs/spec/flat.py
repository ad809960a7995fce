"""A file with its bases and defaults as one tree that knows the origin of each value; YAML of it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from ddqjobs.base.secrets import masked, sounds_secret
from ddqjobs.base.text import clean
from ddqjobs.spec.nodes import CONSTANTS, Node
from ddqjobs.spec.sections import KEY

_ORIGIN_COLUMN = 56
_LONGEST = 120  # characters of a value on one line
_PLAIN = re.compile(r"(?:-{0,2}[A-Za-z_]|~?/)[\w./+@=-]*(?: [\w./+@=-]+)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a file: its value, or the entries of the mapping that it is, and where it was written."""

    key: str
    value: object = None
    entries: tuple[Entry, ...] | None = None
    written: tuple[str, int] | None = None  # file, line; None: a default

    @property
    def plain(self) -> object:
        """The value as plain data, with all defaults."""
        return self.value if self.entries is None else {entry.key: entry.plain for entry in self.entries}

    @property
    def empty(self) -> bool:
        """Tell whether nobody wrote it, and it says nothing."""
        if self.written is not None:
            return False
        values = self.entries
        return self.value in (None, "", [], {}) if values is None else all(entry.empty for entry in values)


def entries(root: Node, value: msgspec.Struct) -> tuple[Entry, ...]:
    """Return the keys of a file that was read as ``value``: those that were written first, then defaults."""
    return _mapping(root, value)


def origins(tree: tuple[Entry, ...], above: str = "") -> Iterator[tuple[str, str, int]]:
    """Yield path, file and line of each value that was written."""
    for entry in tree:
        if entry.entries is not None:
            yield from origins(entry.entries, f"{above}{entry.key}.")
        elif entry.written is not None:
            yield f"{above}{entry.key}", *entry.written


def plain_entries(values: Mapping[str, object]) -> tuple[Entry, ...]:
    """Return plain data as entries without an origin."""
    return tuple(_entry(key, None, value) for key, value in values.items())


def lines(
    tree: tuple[Entry, ...], names: Mapping[str, str], notes: Mapping[str, str] | None = None
) -> list[str]:
    """Return the tree as YAML. ``names`` gives each file's name in comments, and none where there is nothing
    to say; ``notes`` is said behind the key at a path (``tasks.train``)."""
    return list(_lines(tree, names, notes or {}, "", ""))


def _mapping(node: Node | None, value: object) -> tuple[Entry, ...]:
    written = node.value if node is not None and isinstance(node.value, dict) else {}
    order = {key: number for number, key in enumerate(written)}
    below = [_entry(key, written.get(key), part) for key, part in _parts(value)]
    return tuple(sorted(below, key=lambda entry: order.get(entry.key, len(order))))


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield key and value of a mapping or a struct, whose schedulers' sections are keys of their own."""
    if isinstance(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            if field.encode_name == KEY:
                yield from getattr(value, field.name).items()
            else:
                yield field.encode_name, getattr(value, field.name)
    elif isinstance(value, Mapping):
        yield from ((str(msgspec.to_builtins(key)), part) for key, part in value.items())


def _entry(key: str, node: Node | None, value: object) -> Entry:
    written = (node.file, node.line) if node is not None else None
    if isinstance(value, msgspec.Struct) or (isinstance(value, Mapping) and value):
        return Entry(key, entries=_mapping(node, value), written=written)
    return Entry(key, msgspec.to_builtins(value), written=written)


def _lines(
    tree: tuple[Entry, ...], names: Mapping[str, str], notes: Mapping[str, str], indent: str, above: str
) -> Iterator[str]:
    for entry in tree:
        if entry.empty:
            continue
        path = f"{above}{entry.key}"
        head = f"{indent}{_scalar(entry.key)}:"
        if entry.entries is not None:
            below = list(_lines(entry.entries, names, notes, indent + "  ", path + "."))
            yield _commented(head if below else f"{head} {{}}", notes.get(path, ""))
            yield from below
            continue
        file, line = entry.written or ("", 0)
        origin = (f"{names.get(file, file)}:{line}" if file else "default") if names else ""
        first, *rest = _value(_unless_secret(entry.key, entry.value), indent)
        yield _commented(f"{head} {first}" if first else head, origin)
        yield from rest


def _unless_secret(key: str, value: object) -> object:
    """Return the value, ``***`` if it is a text that its key and it make a secret."""
    if isinstance(value, str) and sounds_secret(key) and masked(f"{key}: {value}") != f"{key}: {value}":
        return "***"
    return value


def _commented(text: str, comment: str) -> str:
    return f"{text:<{_ORIGIN_COLUMN}}  # {clean(comment)}" if comment else text


def _value(value: object, indent: str) -> list[str]:
    """Return what stands behind a key, and the lines below it."""
    if isinstance(value, list) and value:
        flow = f"[{', '.join(map(_flow, value))}]"
        if len(flow) <= _LONGEST and not any(isinstance(part, str) and "\n" in part for part in value):
            return [flow]
        below: list[str] = []
        for part in value:
            first, *rest = _value(part, indent + "  ")
            below += [f"{indent}  - {first}", *rest]
        return ["", *below]
    if isinstance(value, str) and (block := _block(value, indent)):
        return block
    return [_flow(value)]


def _block(text: str, indent: str) -> list[str]:
    """Return a long text, or one of several lines, as it is read best; nothing where only quotes keep it
    whole."""
    written = masked(text).removesuffix("\n").split("\n")
    harmless = all(line.isprintable() and line == line.rstrip() for line in written)
    short = "\n" not in text and len(text) <= _LONGEST
    if short or not harmless or not written[0] or not written[-1] or written[0][0] == " ":
        return []
    return ["|" if text.endswith("\n") else "|-", *(f"{indent}  {line}".rstrip() for line in written)]


def _flow(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(part)}" for key, part in value.items()) + "}"
    return _scalar(value)


def _scalar(value: object) -> str:
    if isinstance(value, float) and "." not in (text := repr(value)):
        return text.replace("e", ".0e")  # without a point YAML 1.1 reads text
    if not isinstance(value, str):
        return json.dumps(value)
    value = masked(value)  # before it is quoted, so that what is left is still YAML
    if _PLAIN.fullmatch(value) and value.isascii() and value not in CONSTANTS:
        return value
    if '"' in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=not value.isprintable())
