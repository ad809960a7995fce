"""The keys of a file, one by one, from its JSON Schema: for ``ddqjobs schema KIND KEY`` and the reference
pages. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_PREFIX = "#/$defs/"
_NAME = "NAME"  # stands in a path for what users name themselves
_WORDS = {"string": "text", "boolean": "yes or no", "integer": "whole number", "number": "number"}


class Key(NamedTuple):
    """One key: where it stands, what may stand there, and what it means."""

    path: str  # from the outermost key in, joined by dots
    section: str  # the type that it belongs to
    form: str
    default: str  # as YAML; empty if there is none
    required: bool
    text: str
    example: str  # as YAML; empty if there is none


def of(schema: Mapping[str, Any]) -> list[Key]:
    """Return the keys of a file in the order of its types, a key's own keys after it."""
    return list(_keys(schema["$defs"], schema["$ref"], ""))


def chosen(keys: list[Key], path: str) -> list[Key]:
    """Return the keys that somebody means: those whose path, or its end, has most words of ``path``, whole
    paths first. NAME may be left out, or be a name of one's own behind the key that it belongs to."""
    wanted = path.strip(".").split(".")
    paths = [key.path.split(".") + [_NAME] * key.form.startswith("mapping") for key in keys]
    whole = [_agreeing(parts, wanted) for parts in paths]
    ends = [
        max(_agreeing(parts[i:], wanted) for i, part in enumerate(parts) if part != _NAME) for parts in paths
    ]
    best = max(1, *ends)
    scores = whole if best in whole else ends
    return [key for key, score in zip(keys, scores, strict=True) if score == best]


def _agreeing(path: list[str], wanted: list[str]) -> int:
    """Return how many words of a path are those that are wanted, where NAME stands for any or none; -1 if the
    path is another."""
    if not path:
        return -1 if wanted else 0
    scores = [_agreeing(path[1:], wanted)] if path[0] == _NAME else []
    if wanted and path[0] in (wanted[0], _NAME):
        below = _agreeing(path[1:], wanted[1:])
        scores.append(below if below < 0 else below + (path[0] == wanted[0]))
    return max(scores, default=-1)


def _keys(parts: Mapping[str, Any], reference: str, path: str) -> Iterator[Key]:
    section = reference.removeprefix(_PREFIX)
    part = parts[section]
    for name, value in part.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        default = value.get("default")
        yield Key(
            path=here,
            section=section,
            form=_form(parts, value),
            default=as_yaml(default) if default not in (None, "", [], {}) else "",
            required=name in part.get("required", part.get("x-required", ())),
            text=value.get("description", ""),
            example="; ".join(map(as_yaml, value.get("examples", ()))),
        )
        for below, named in _below(parts, value):
            yield from _keys(parts, below, f"{here}.{_NAME}" if named else here)


def _below(parts: Mapping[str, Any], value: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield the types whose keys may stand below a key, and whether below names of the user's own."""
    for one in (value, *value.get("anyOf", ())):
        if "properties" in parts.get(one.get("$ref", "").removeprefix(_PREFIX), {}):
            yield one["$ref"], False
        inner = one.get("additionalProperties")
        if isinstance(inner, dict):
            yield from ((reference, True) for reference, _ in _below(parts, inner))
        if isinstance(one.get("items"), dict):
            yield from _below(parts, one["items"])


def _form(parts: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    if "$ref" in value:
        part = parts[value["$ref"].removeprefix(_PREFIX)]
        return _form(parts, part) if "enum" in part else "keys"
    if "enum" in value:
        return " or ".join(map(as_yaml, value["enum"]))
    if "anyOf" in value:
        forms = [_form(parts, one) for one in value["anyOf"] if one.get("type") != "null"]
        return "single value" if {*_WORDS.values()} <= {*forms} else " or ".join(dict.fromkeys(forms))
    kind = value.get("type", "")
    if kind == "array":
        return f"list of {_form(parts, value.get('items') or {})}"
    if kind == "object":
        inner = value.get("additionalProperties")
        return f"mapping to {_form(parts, inner)}" if isinstance(inner, dict) else "keys"
    return _WORDS.get(kind, "any value")


def as_yaml(value: object) -> str:
    """Return a value as one line of YAML; what is text stays without quotes where that reads the same."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_yaml(k)}: {as_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    import yaml

    try:
        return bool(yaml.safe_load(f"[{text}]") == [text])
    except yaml.YAMLError:
        return False
