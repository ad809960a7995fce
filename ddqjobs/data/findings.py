"""Findings about a data set's split, as they come up."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from ddqjobs.base.findings import Level
from ddqjobs.base.frozen import Frozen

_EXAMPLES = 5


class Finding(Frozen, frozen=True, kw_only=True):
    """Something that is wrong (error), or worth a word (warning): ``count`` times, some of them named."""

    level: Level
    where: str
    what: str
    count: int = 1
    examples: tuple[str, ...] = ()
    mendable: bool = False  # by `data verify --fix`


class Tally:
    """Findings as they come up, one for each kind."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}

    def add(
        self,
        where: str,
        what: str,
        example: object = "",
        level: Level = Level.ERROR,
        *,
        mendable: bool = False,
    ) -> None:
        """Count one more of a kind."""
        before = self._found.get((where, what))
        examples = before.examples if before else ()
        if example != "" and len(examples) < _EXAMPLES:
            examples = (*examples, str(example))
        self._found[where, what] = Finding(
            level=level,
            where=where,
            what=what,
            count=before.count + 1 if before else 1,
            examples=examples,
            mendable=mendable,
        )

    def unique(
        self,
        ids: Iterable[Hashable],
        where: str,
        what: str,
        level: Level = Level.ERROR,
        *,
        mendable: bool = False,
    ) -> None:
        """Count each value that was there before."""
        seen: set[Hashable] = set()
        for value in ids:
            if value in seen:
                self.add(where, what, value, level, mendable=mendable)
            seen.add(value)

    def findings(self) -> list[Finding]:
        """Return one finding of each kind, in the order in which the kinds came up."""
        return list(self._found.values())
