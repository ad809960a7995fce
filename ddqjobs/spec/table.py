"""Parts of the types of all files: sections, names, numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from ddqjobs.base.units import seconds

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Variable = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="a name of an environment variable")
]
Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]

Place = tuple[str | int, ...]  # of a value in a file: keys and indices, from the outside in


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all sections: an unknown key is an error."""


def durations(values: Mapping[Place, str]) -> Iterator[tuple[Place, str]]:
    """Yield (place, message) of each value that is no duration."""
    for place, value in values.items():
        try:
            seconds(value)
        except ValueError as error:
            yield place, str(error)
