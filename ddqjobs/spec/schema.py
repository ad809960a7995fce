"""The JSON Schema of the files that users write, for editors and for ``ddqjobs schema``."""

from __future__ import annotations

from typing import Any

import msgspec

from ddqjobs.spec.sections import KEY, Kinds


def schema(kind: type[msgspec.Struct], title: str = "", sections: Kinds | None = None) -> dict[str, Any]:
    """Return the JSON Schema of a type of file. Where files inherit, only a file without base needs its
    required keys, and parts of it may be incomplete."""
    document = msgspec.json.schema(kind)
    _insert(document, sections or {})
    root = document["$defs"][kind.__name__]
    if "base" in root["properties"]:
        required = root.get("required", [])
        for part in document["$defs"].values():
            part.pop("required", None)
        root["anyOf"] = [{"required": ["base"]}, {"required": required}]
    header = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title or kind.__name__}
    return {**header, **document}


def _insert(document: dict[str, Any], kinds: Kinds) -> None:
    """Put the sections of schedulers into a JSON Schema, in the place of :data:`KEY`."""
    (references, definitions) = msgspec.json.schema_components(kinds.values(), ref_template="#/$defs/{name}")
    sections = {name: {**ref, "default": {}} for name, ref in zip(kinds, references, strict=True)}
    parts = document["$defs"]
    for part in parts.values():
        if "properties" in part:
            part["properties"] = _expanded(part["properties"], sections)
    parts.update(definitions)


def _expanded(properties: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    both: dict[str, Any] = {}
    for key, value in properties.items():
        if key == KEY:
            both.update(sections)
        else:
            both[key] = {"enum": sorted(sections)} if value.get("one_of") == KEY else value
    return both
