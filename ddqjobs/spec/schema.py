"""The JSON Schema of the files that users write, for editors and for ``ddqjobs schema``."""

from __future__ import annotations

from typing import Any

import msgspec

from ddqjobs.spec import descriptions
from ddqjobs.spec.sections import KEY, Kinds


def schema(kind: type[msgspec.Struct], title: str = "", sections: Kinds | None = None) -> dict[str, Any]:
    """Return the JSON Schema of a type of file. Where files inherit, only a file without base needs its
    required keys, and parts of it may be incomplete."""
    document = msgspec.json.schema(kind)
    descriptions.add(document, kind)
    _insert(document, sections or {})
    root = document["$defs"][kind.__name__]
    if "base" in root["properties"]:
        required = root.get("required", [])
        for part in document["$defs"].values():
            if "required" in part:  # JSON Schema passes over words that it does not know
                part["x-required"] = part.pop("required")
        root["anyOf"] = [{"required": ["base"]}, {"required": required}]
    header = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title or kind.__name__}
    return {**header, **document}


def _insert(document: dict[str, Any], kinds: Kinds) -> None:
    """Put the sections of schedulers into a JSON Schema, in the place of :data:`KEY`."""
    (references, definitions) = msgspec.json.schema_components(kinds.values(), ref_template="#/$defs/{name}")
    named = dict(zip(kinds, references, strict=True))
    parts = document["$defs"]
    for part in parts.values():
        if "properties" in part:
            part["properties"] = _expanded(part["properties"], named)
    parts.update(definitions)
    if kinds:
        descriptions.add(document, *kinds.values())


def _expanded(properties: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    both: dict[str, Any] = {}
    for key, value in properties.items():
        if key == KEY:
            for name, reference in sections.items():
                both[name] = {**reference, "default": {}, **_described(value, name)}
        else:
            own = {name: word for name, word in value.items() if name not in ("type", "one_of")}
            both[key] = {**own, "enum": sorted(sections)} if value.get("one_of") == KEY else value
    return both


def _described(value: dict[str, Any], name: str) -> dict[str, Any]:
    """Return description and example of the sections, as those of one scheduler."""
    described = {"description": value["description"]} if "description" in value else {}
    examples = [example[name] for example in value.get("examples", ()) if name in example]
    return {**described, "examples": examples} if examples else described
