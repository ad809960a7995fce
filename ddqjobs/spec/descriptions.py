"""Read what the keys of files mean: the strings below the fields of their types, from the source.

A field is described once, where it is declared, by a string on its own below it (an attribute docstring, as
Sphinx and pydantic know them). Of what users write it ends with ``Example: VALUE``, as YAML.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import msgspec
import yaml
from msgspec import inspect as types

_EXAMPLE = "Example: "


class Description(NamedTuple):
    """The meaning of one key: a sentence or two, and a value as a file may say it; None: no example."""

    text: str
    example: Any = None


@cache
def of(kind: type[msgspec.Struct]) -> dict[str, Description]:
    """Return field -> description of a type, in the order of its fields."""
    (declaration,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(declaration, ast.ClassDef)
    return {name: _split(text) for name, text in _strings(declaration)}


def example(kind: type[msgspec.Struct], field: str) -> str:
    """Return the end of an error about a field: what to write instead; empty if no example is declared."""
    from ddqjobs.spec.keys import as_yaml

    value = of(kind).get(field, Description("")).example
    return "" if value is None else f"; write for example {as_yaml(value)}"


def _strings(declaration: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the fields that are followed by a string, and that string in one line."""
    for field, below in zip(declaration.body, declaration.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield field.target.id, " ".join(below.value.value.split())


def _split(text: str) -> Description:
    description, _, example = text.partition(_EXAMPLE)
    return Description(description.strip(), yaml.safe_load(example) if example else None)


def add(document: dict[str, Any], kind: type[msgspec.Struct], *others: type[msgspec.Struct]) -> None:
    """Put the descriptions and examples into a JSON Schema that msgspec made of these types."""
    declared = {struct.__name__: struct for root in (kind, *others) for struct in structs(root)}
    for name, part in document["$defs"].items():
        if name not in declared:  # an enumeration
            continue
        described = of(declared[name])
        for field in types.type_info(declared[name]).fields:  # type: ignore[attr-defined]
            description, key = described.get(field.name), part["properties"].get(field.encode_name)
            if description is None or key is None:
                continue
            form = f" ({key['description']})" if "description" in key else ""
            key["description"] = description.text.rstrip(".") + form if form else description.text
            if description.example is not None:
                key["examples"] = [description.example]


def structs(kind: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """Return a type and all types of its fields, each once, outermost first."""
    kinds: dict[type[msgspec.Struct], None] = {}
    waiting: list[object] = [types.type_info(kind)]
    while waiting:
        now = waiting.pop(0)
        if isinstance(now, types.StructType):
            if now.cls not in kinds:
                kinds[now.cls] = None
                waiting += [field.type for field in now.fields]
        elif isinstance(now, types.UnionType):
            waiting += now.types
        else:
            parts = ("type", "item_type", "key_type", "value_type")
            waiting += [part for name in parts if (part := getattr(now, name, None)) is not None]
            waiting += getattr(now, "item_types", ())
    return [*kinds]
