"""Checks a tree of :class:`ddqjobs.spec.nodes.Node` against msgspec types and finds *every* problem.

``msgspec.convert`` stops at the first one and knows no lines; it has the last word all the same, after the
walk here has found nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct, inspect

from ddqjobs.base.errors import MOST_PROBLEMS, Problem, listed, nearest
from ddqjobs.spec import sections
from ddqjobs.spec.inheritance import added_to, names_beside
from ddqjobs.spec.nodes import Node, Path, plain
from ddqjobs.spec.table import units_of

_MOST_UNKNOWN = 10  # keys of one mapping that are reported one by one


class TooManyProblems(Exception):
    """More problems were found than are shown: the walk ends."""


class Checker:
    """One walk. ``problems`` collects what it finds.

    ``partial`` is for a file whose base could not be read, or was probably meant to be named: nothing can be
    said to be missing then, nor what is empty to remove nothing. ``bases`` has for each file that inherits
    the tree of all that it inherits; ``sections`` the types of the schedulers' own sections. Without them
    every other key is left out where such sections may stand.
    """

    def __init__(
        self,
        *,
        partial: bool = False,
        bases: Mapping[str, Node] | None = None,
        sections: sections.Kinds | None = None,
    ) -> None:
        self.partial = partial
        self.bases = bases or {}
        self.sections = sections
        self.problems: list[Problem] = []
        self.fields: dict[Path, tuple[type[Struct], str]] = {}  # where each key is declared

    def check(self, node: Node, kind: inspect.Type, path: Path) -> object:
        """``node`` as plain data for ``msgspec.convert``; meaningless once there are problems."""
        rule = _RULES.get(type(kind))
        if rule is None:
            raise TypeError(f"{dotted(path)}: no rule for {kind}")
        if node.bad or (self.partial and node.value is None):
            return None
        return rule(self, node, kind, path)

    def problem(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.file, node.line, message))
        if len(self.problems) > 2 * MOST_PROBLEMS:
            raise TooManyProblems

    def wrong_type(self, node: Node, kind: inspect.Type, path: Path) -> object:
        wanted = wanted_words(kind)
        message = f"{dotted(path) or 'the file'} must be {wanted}, not {found_words(node)}"
        if type(node.value) in (int, float) and (units := units_of(kind)):
            message = f"{dotted(path)} has no unit: {node.raw}; write {units}"
        elif isinstance(node.value, (bool, int, float)) and "text" in wanted:
            message += "; put it in quotes if it is text"
        elif path in self.fields and wanted != "true or false":
            from ddqjobs.spec import descriptions  # which parses source: for errors only

            message += descriptions.example(*self.fields[path])
        self.problem(node, message)
        return None

    def struct(self, node: Node, kind: inspect.StructType, path: Path) -> object:
        if not isinstance(node.value, dict):
            return self.wrong_type(node, kind, path)
        for name in self.lacking(node, kind):
            removed = (node.removed or {}).get(name)
            if removed is None:
                instead = sections.instead(_fields(kind.cls)[name].type)
                self.problem(node, f"missing key '{name}'{_within(path)}{instead}")
            else:
                reason = "is required, but an empty value removes the base's; fill it, or delete the line"
                self.problem(removed, f"{dotted((*path, name))} {reason}")
        return self.known_keys(node.value, kind, path)

    def lacking(self, node: Node, kind: inspect.StructType) -> list[str]:
        """The keys that must be in a mapping and are not."""
        if not isinstance(node.value, dict) or self.partial:
            return []
        return [n for n, field in _fields(kind.cls).items() if field.required and n not in node.value]

    def known_keys(self, entries: dict[str, Node], kind: inspect.StructType, path: Path) -> dict[str, object]:
        fields = _fields(kind.cls)
        if sections.KEY in fields and self.sections is None:
            entries = {key: entry for key, entry in entries.items() if key in fields}
        own = (self.sections or {}) if sections.KEY in fields else {}
        valid = sections.expanded(fields, own)
        data: dict[str, object] = {}
        own_sections: dict[str, object] = {}
        unknown = [key for key in entries if key not in own and (key not in fields or key == sections.KEY)]
        if len(unknown) > _MOST_UNKNOWN:
            message = f"{len(unknown)} unknown keys{_within(path)}, the first is {show(unknown[0])}"
            self.problem(entries[unknown[0]], f"{message}; valid keys: {', '.join(valid)}")
            known = entries.keys() - set(unknown)
            entries = {key: entry for key, entry in entries.items() if key in known}
        for key, entry in entries.items():
            if key in own:
                section = self.check(entry, inspect.type_info(own[key]), (*path, key))
                own_sections[key] = section if sections.fits(section, own[key]) else None
            elif key in fields and key != sections.KEY:
                place = (*path, key)
                self.fields[place] = kind.cls, fields[key].name
                data[key] = self.check(entry, fields[key].type, place)
            else:
                self.problem(entry, _unknown("key", key, valid, "valid keys", _within(path)))
        return {**data, sections.KEY: own_sections} if own_sections else data

    def dictionary(self, node: Node, kind: inspect.DictType, path: Path) -> object:
        if not isinstance(node.value, dict):
            return self.wrong_type(node, kind, path)
        data = {}
        for key, entry in node.value.items():
            self.check_key(entry, key, kind.key_type, path)
            data[key] = self.entry(entry, kind.value_type, (*path, key))
        self.check_length(node, kind.min_length, kind.max_length, "entries", path)
        return data

    def entry(self, node: Node, kind: inspect.Type, path: Path) -> object:
        """A value of a dictionary. One that cannot stand alone was meant to change one of the base's."""
        if isinstance(kind, inspect.StructType) and not self.partial:
            base = added_to(self.bases, node, path)
            needed = self.lacking(node, kind)
            if base is not None and (needed or (node.value is None and not node.bad)):
                self.problem(node, _not_inherited(base, path, needed))
                return self.known_keys(node.value, kind, path) if isinstance(node.value, dict) else None
        return self.check(node, kind, path)

    def check_key(self, entry: Node, key: str, kind: inspect.Type, path: Path) -> None:
        description, kind = _described(kind)
        if isinstance(kind, (inspect.EnumType, inspect.LiteralType)):
            valid = _words(kind)
            if key not in valid:
                self.problem(entry, _unknown("key", key, valid, "valid keys", _within(path)))
        elif isinstance(kind, inspect.StrType) and kind.pattern and not matches(kind.pattern, key):
            rule = description or f"it must match {kind.pattern}"
            self.problem(entry, f"key {show(key)}{_within(path)} is not allowed: {rule}")

    def sequence(self, node: Node, kind: inspect.ListType | inspect.VarTupleType, path: Path) -> object:
        if not isinstance(node.value, list):
            return self.wrong_type(node, kind, path)
        self.check_length(node, kind.min_length, kind.max_length, "elements", path)
        return [self.check(item, kind.item_type, (*path, i)) for i, item in enumerate(node.value)]

    def fixed_tuple(self, node: Node, kind: inspect.TupleType, path: Path) -> object:
        if not isinstance(node.value, list):
            return self.wrong_type(node, kind, path)
        self.check_length(node, len(kind.item_types), len(kind.item_types), "elements", path)
        pairs = zip(node.value, kind.item_types, strict=False)
        return [self.check(item, item_kind, (*path, i)) for i, (item, item_kind) in enumerate(pairs)]

    def check_length(self, node: Node, low: int | None, high: int | None, what: str, path: Path) -> None:
        assert isinstance(node.value, (dict, list, str))
        length = len(node.value)
        if low is not None and length < low:
            self.problem(node, f"{dotted(path)} has {length} {what}, at least {low} needed")
        if high is not None and length > high:
            self.problem(node, f"{dotted(path)} has {length} {what}, at most {high} allowed")

    def text(self, node: Node, kind: inspect.StrType, path: Path, description: str = "") -> object:
        value = node.value
        if kind.pattern and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)  # a name that looks like a number, as in `phase: 1`
            node = dataclasses.replace(node, value=value)
        if not isinstance(value, str):
            return self.wrong_type(node, kind, path)
        self.check_length(node, kind.min_length, kind.max_length, "characters", path)
        if kind.pattern and not matches(kind.pattern, value):
            rule = description or f"it must match {kind.pattern}"
            self.problem(node, f"{dotted(path)} may not be {show(value)}: {rule}")
        return value

    def metadata(self, node: Node, kind: inspect.Metadata, path: Path) -> object:
        if sections.names_scheduler(kind):
            return self.choice(node, inspect.LiteralType(tuple(self.sections or ())), path)
        description, inner = _described(kind)
        if units_of(kind) and not isinstance(node.value, str):
            return self.wrong_type(node, kind, path)
        if description and isinstance(inner, inspect.StrType):
            return self.text(node, inner, path, description)
        return self.check(node, inner, path)

    def boolean(self, node: Node, kind: inspect.BoolType, path: Path) -> object:
        return node.value if isinstance(node.value, bool) else self.wrong_type(node, kind, path)

    def nothing(self, node: Node, kind: inspect.NoneType, path: Path) -> object:
        return None if node.value is None else self.wrong_type(node, kind, path)

    def number(self, node: Node, kind: inspect.IntType | inspect.FloatType, path: Path) -> object:
        value = node.value
        types = int if isinstance(kind, inspect.IntType) else (int, float)
        if isinstance(value, bool) or not isinstance(value, types):
            return self.wrong_type(node, kind, path)
        assert isinstance(value, (int, float))
        for limit, relation, kept in (
            (kind.ge, "at least", operator.ge),
            (kind.gt, "more than", operator.gt),
            (kind.le, "at most", operator.le),
            (kind.lt, "less than", operator.lt),
            (kind.multiple_of, "a multiple of", lambda a, b: a % b == 0),
        ):
            if limit is not None and not kept(value, limit):
                self.problem(node, f"{dotted(path)} must be {relation} {limit}, not {node.raw}")
        return value

    def choice(self, node: Node, kind: inspect.EnumType | inspect.LiteralType, path: Path) -> object:
        values = _values(kind)
        if any(node.value == value and type(node.value) is type(value) for value in values):
            return node.value
        if isinstance(node.value, str):
            self.problem(node, f"{dotted(path)} may not be {_choices(node.value, _words(kind))}")
            return None
        return self.wrong_type(node, kind, path)

    def union(self, node: Node, kind: inspect.UnionType, path: Path) -> object:
        # msgspec allows at most one member of each shape in a union, so that the value's shape decides.
        fitting = [member for member in kind.types if _fits(node.value, member)]
        if not fitting and isinstance(node.value, int) and not isinstance(node.value, bool):
            fitting = [member for member in kind.types if _is_name(member)]
        if not fitting:
            return self.wrong_type(node, kind, path)
        exact = [member for member in fitting if not isinstance(member, inspect.FloatType)]
        return self.check(node, (exact or fitting)[0], path)


def no_such_entry(base: Node, path: Path) -> str:
    """``b.yaml has no task 'p3-trian'; did you mean 'p3-train'?``; for what :func:`added_to` found."""
    *above, section, name = path
    names = names_beside(base, path)
    hint = nearest(str(name), names) or f"; there are: {listed(names)};"
    what = str(section).removesuffix("s")
    return f"{base.file} has no {what} {show(str(name))}{_within(tuple(above))}{hint}"


def _not_inherited(base: Node, path: Path, needed: list[str]) -> str:
    if not needed:
        return f"nothing to remove: {no_such_entry(base, path)}".removesuffix(";")
    keys = " and ".join(f"'{key}'" for key in needed)
    return f"{no_such_entry(base, path)} a new one needs {keys}"


def _is_name(kind: inspect.Type) -> bool:
    inner = kind.type if isinstance(kind, inspect.Metadata) else kind
    return isinstance(inner, inspect.StrType) and bool(inner.pattern)


def matches(pattern: str, text: str) -> bool:
    """Return whether text has the pattern. Unlike ``re``'s, a final ``$`` stands no newline behind it."""
    return _compiled(pattern).search(text) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"(?<!\\)\$$", r"\\Z", pattern))


def dotted(path: Path) -> str:
    """``("tasks", "train", "seeds", 0)`` as ``tasks.train.seeds[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if part.isprintable() else show(part)
            text += f".{key}" if text else key
    return text


def show(text: str) -> str:
    """Text from a file on one line, quoted, shortened."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def found_words(node: Node) -> str:
    """Return what a node is, in words: ``text 'eight'``, ``the number 1.10``, ``a list``."""
    value = node.value
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the truth value {node.raw}"
    if isinstance(value, (int, float)):
        return f"the number {node.raw}"
    if isinstance(value, str):
        return f"text {show(value)}"
    return "a list" if isinstance(value, list) else "a mapping"


def wanted_words(kind: inspect.Type) -> str:
    """Return what a type wants, in words: ``a whole number``, ``text or a list``."""
    _, kind = _described(kind)
    if isinstance(kind, inspect.UnionType):
        members = [m for m in kind.types if not isinstance(m, inspect.NoneType)]
        return " or ".join(dict.fromkeys(wanted_words(member) for member in members))
    if isinstance(kind, (inspect.EnumType, inspect.LiteralType)):
        return "one of " + ", ".join(_words(kind))
    return _WANTED.get(type(kind), "something else")


def _unknown(what: str, word: str, valid: Iterable[str], header: str, within: str = "") -> str:
    valid = list(valid)
    return f"unknown {what} {show(word)}{within}{nearest(word, valid) or ';'} {header}: {', '.join(valid)}"


def _choices(word: str, valid: list[str]) -> str:
    return f"{show(word)}{nearest(word, valid) or ';'} valid: {', '.join(valid)}"


def _within(path: Path) -> str:
    return f" in {dotted(path)}" if path else ""


def _described(kind: inspect.Type) -> tuple[str, inspect.Type]:
    """The description of a type's Meta (empty if none) and the type itself."""
    if isinstance(kind, inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description", "")), kind.type
    return "", kind


def _values(kind: inspect.EnumType | inspect.LiteralType) -> list[object]:
    return [m.value for m in kind.cls] if isinstance(kind, inspect.EnumType) else list(kind.values)


def _words(kind: inspect.EnumType | inspect.LiteralType) -> list[str]:
    return [str(value) for value in _values(kind) if value is not None]


def _fits(value: object, kind: inspect.Type) -> bool:
    """Return whether a value has the shape of a type, whatever its content."""
    _, kind = _described(kind)
    if isinstance(kind, (inspect.EnumType, inspect.LiteralType)):
        return type(value) in {type(v) for v in _values(kind)}
    shape = _SHAPES.get(type(kind))
    return shape is None or type(value) in shape


@functools.cache
def _fields(cls: type) -> dict[str, inspect.Field]:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    return {field.encode_name: field for field in kind.fields}


_RULES: dict[type, Callable[[Checker, Node, Any, Path], object]] = {
    inspect.StructType: Checker.struct,
    inspect.DictType: Checker.dictionary,
    inspect.ListType: Checker.sequence,
    inspect.VarTupleType: Checker.sequence,
    inspect.TupleType: Checker.fixed_tuple,
    inspect.StrType: Checker.text,
    inspect.IntType: Checker.number,
    inspect.FloatType: Checker.number,
    inspect.BoolType: Checker.boolean,
    inspect.NoneType: Checker.nothing,
    inspect.EnumType: Checker.choice,
    inspect.LiteralType: Checker.choice,
    inspect.UnionType: Checker.union,
    inspect.Metadata: Checker.metadata,
    inspect.AnyType: lambda _checker, node, _kind, _path: plain(node),
}
_SHAPES: dict[type, tuple[type, ...]] = {
    inspect.StructType: (dict,),
    inspect.DictType: (dict,),
    inspect.ListType: (list,),
    inspect.VarTupleType: (list,),
    inspect.TupleType: (list,),
    inspect.StrType: (str,),
    inspect.IntType: (int,),
    inspect.FloatType: (int, float),
    inspect.BoolType: (bool,),
    inspect.NoneType: (type(None),),
}
_WANTED: dict[type, str] = {
    inspect.StructType: "a mapping (key: value)",
    inspect.DictType: "a mapping (key: value)",
    inspect.ListType: "a list",
    inspect.VarTupleType: "a list",
    inspect.TupleType: "a list",
    inspect.StrType: "text",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.NoneType: "empty",
}
