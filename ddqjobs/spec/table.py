"""Parts of the types of all files: sections, names, numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, inspect

from ddqjobs.base.units import seconds

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Variable = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="a name of an environment variable")
]
Positive = Annotated[int, Meta(ge=1)]
Scalar = bool | int | float | str | None
Natural = Annotated[int, Meta(ge=0)]
_UNITS = "units"  # in `Meta.extra`: how to write a value that is a number with a unit
Duration = Annotated[str, Meta(extra={_UNITS: "90s, 45m, 24h or 2d"})]
Size = Annotated[str, Meta(extra={_UNITS: "500MB, 300GB or 16GiB"})]

Place = tuple[str | int, ...]  # of a value in a file: keys and indices, from the outside in


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all sections: an unknown key is an error."""


def units_of(kind: inspect.Type) -> str:
    """Return how a number with a unit is written, where a type wants one; else an empty text."""
    members = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    said = (m.extra for m in members if isinstance(m, inspect.Metadata) and m.extra)
    return next((str(extra[_UNITS]) for extra in said if _UNITS in extra), "")


def durations(values: Mapping[Place, str]) -> Iterator[tuple[Place, str]]:
    """Yield (place, message) of each value that is not a valid duration."""
    for place, value in values.items():
        try:
            seconds(value)
        except ValueError as error:
            yield place, str(error)
