"""A scheduler's own section of a file: the key in site and experiment files that is the scheduler's name.

Which schedulers there are is not known here. A type has one field for all of their sections, and whoever
reads a file says which keys that field stands for, and of what types they are
(:mod:`ddqjobs.planning.sections`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, inspect

from ddqjobs.base.errors import InputError

KEY = "<scheduler>"  # of the field in a type: it stands for the keys that are schedulers' names
Section = dict[str, Any]  # as the file says it, its types and keys checked
Kinds = Mapping[str, type[msgspec.Struct]]  # scheduler -> type of its section
Scheduler = Annotated[str, Meta(extra_json_schema={"one_of": KEY})]  # a name of a scheduler


def names_scheduler(kind: inspect.Metadata) -> bool:
    """Return whether a type is :data:`Scheduler`."""
    return (kind.extra_json_schema or {}).get("one_of") == KEY


def instead(kind: inspect.Type) -> str:
    """Return what may stand in a file instead of a missing key of this type."""
    named = isinstance(kind, inspect.Metadata) and names_scheduler(kind)
    return ", or `base: slurm`, which has it" if named else ""


def expanded(keys: Mapping[str, object], kinds: Kinds) -> list[str]:
    """Return the keys of a mapping with the schedulers' names in the place of :data:`KEY`."""
    return [name for key in keys for name in (kinds if key == KEY else (key,))]


def merged(*layers: Mapping[str, Section]) -> dict[str, Section]:
    """Return the layers on top of each other: the last one that says a key has it, and an empty value says
    nothing."""
    both: dict[str, Section] = {}
    for layer in layers:
        for scheduler, section in layer.items():
            said = {key: value for key, value in section.items() if value is not None}
            if said:
                both[scheduler] = {**both.get(scheduler, {}), **said}
    return both


def fits(section: object, kind: type[msgspec.Struct]) -> bool:
    """Return whether plain data is a section of this type."""
    try:
        msgspec.convert(section, kind)
    except msgspec.ValidationError:
        return False
    return True


S = TypeVar("S", bound=msgspec.Struct)


def decoded(sections: Mapping[str, Section], scheduler: str, kind: type[S]) -> S:
    """Return a scheduler's section, which may be absent, as its type. Raises InputError for a section that no
    file was read for, and that is not of this type."""
    try:
        return msgspec.convert(sections.get(scheduler, {}), kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{scheduler}: {error}") from error
