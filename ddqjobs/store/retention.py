"""Decide which checkpoints of a run may go. Pure: names, places and what is declared in; a reason for each
file out.

Detectors number their checkpoints in series: ``epoch_12.pth``, ``iter_5000.pth``, and
``resume_epoch_11_iter_400.pth`` to go on from in the middle of an epoch. Nothing that bears another name is
ever touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator

from ddqjobs.base.frozen import Frozen

_NAMES = (
    ("resume", re.compile(r"resume_epoch_(\d+)_iter_(\d+)\.pth")),
    ("epoch", re.compile(r"epoch_(\d+)\.pth")),
    ("iter", re.compile(r"iter_(\d+)\.pth")),
    ("best", re.compile(r"best_[^/]*\.pth")),
)
_UNFINISHED = re.compile(r"\.(?:resume_epoch|epoch|iter|best)_[^/]*\.pth\.\d+(?:-[0-9a-f]+)?\.tmp")


class Rule(Frozen, frozen=True, kw_only=True):
    """The declaration: how many of each series stay, and whether the best and final ones do."""

    last: int = 1
    best: bool = True
    final: bool = True


class Checkpoint(Frozen, frozen=True, kw_only=True):
    """A checkpoint of one attempt."""

    run: str
    attempt: int
    digest: str  # of the attempt: only attempts of one digest go on from each other's checkpoints
    path: str
    size: int  # bytes that it occupies
    inode: tuple[int, int]  # device and number: the same for all hard links of a file
    links: int

    @property
    def name(self) -> str:
        """Its file's name."""
        return self.path.rpartition("/")[2]

    @property
    def place(self) -> tuple[str, tuple[int, ...]]:
        """(series, how far the training was)."""
        return place(self.name) or ("", ())


class Decision(Frozen, frozen=True, kw_only=True):
    """A checkpoint, whether it stays, and why."""

    checkpoint: Checkpoint
    stays: bool
    reason: str


def place(name: str) -> tuple[str, tuple[int, ...]] | None:
    """(series, how far the training was) of a checkpoint's name; None for any other file."""
    for series, pattern in _NAMES:
        match = pattern.fullmatch(name)
        if match:
            return series, tuple(int(number) for number in match.groups())
    return ("unfinished", ()) if _UNFINISHED.fullmatch(name) else None


def decide(
    checkpoints: Iterable[Checkpoint],
    rule: Rule,
    *,
    done: bool,
    active: bool,
    products: Collection[str] = (),
    finals: Collection[str] = (),
    whole: Callable[[str], bool],
) -> Iterator[Decision]:
    """Decides on all checkpoints of one run.

    ``products`` are paths that always stay, ``finals`` those of trainings that went to their end. Of a run
    that is not ``done`` the last whole ones of each series stay, since it will go on from them; of an
    ``active`` one also whatever is newer and not whole, since it is being written.
    """
    groups: dict[tuple[str, str], list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault((checkpoint.digest, checkpoint.place[0]), []).append(checkpoint)
    for (_, series), members in groups.items():
        newest_first = sorted(members, key=lambda c: (c.place[1], c.attempt), reverse=True)
        counted = Counted(rule, series, done=done, active=active, whole=whole)
        for checkpoint in newest_first:
            stays, reason = _always(checkpoint, rule, products, finals)
            if stays:
                counted.took(checkpoint)
            else:
                stays, reason = counted.decide(checkpoint)
            yield Decision(checkpoint=checkpoint, stays=stays, reason=reason)


def _always(
    checkpoint: Checkpoint, rule: Rule, products: Collection[str], finals: Collection[str]
) -> tuple[bool, str]:
    if checkpoint.path in products:
        return True, "the run's product, or an input"
    if rule.final and checkpoint.path in finals:
        return True, "final: of a training that went to its end"
    if rule.best and checkpoint.place[0] == "best":
        return True, "best"
    return False, ""


class Counted:
    """Goes through one series, newest first, and lets the last ones stay."""

    def __init__(
        self, rule: Rule, series: str, *, done: bool, active: bool, whole: Callable[[str], bool]
    ) -> None:
        self._left, self._series = rule.last, series
        self._done, self._active, self._whole = done, active, whole
        self._seen: set[tuple[int, ...]] = set()

    def took(self, checkpoint: Checkpoint) -> None:
        """Counts one that stays anyway."""
        if checkpoint.place[1] not in self._seen:
            self._seen.add(checkpoint.place[1])
            self._left -= 1

    def decide(self, checkpoint: Checkpoint) -> tuple[bool, str]:
        """(whether it stays, why)."""
        if self._series == "unfinished":
            return self._active, "being written" if self._active else "unfinished"
        if self._series == "best":
            return False, "best ones are not kept"
        if self._series == "resume" and self._done:
            return False, "the run is done: nothing goes on from it"
        if checkpoint.place[1] in self._seen:
            return False, "a later attempt has it too"
        if self._left <= 0:
            return False, "there are later ones"
        if not self._whole(checkpoint.path):
            return self._active, "being written" if self._active else "torn"
        self.took(checkpoint)
        return True, "one of the last" if self._done else "to go on from"


def freed(removed: Iterable[Checkpoint]) -> dict[str, int]:
    """Path -> bytes that removing all of them frees: those of a file with several names count once, with the
    last name to go, and not at all while another name stays."""
    names: dict[tuple[int, int], list[Checkpoint]] = {}
    for checkpoint in removed:
        names.setdefault(checkpoint.inode, []).append(checkpoint)
    out: dict[str, int] = {}
    for same in names.values():
        for checkpoint in same:
            out[checkpoint.path] = 0
        if len(same) >= same[-1].links:
            out[same[-1].path] = same[-1].size
    return out
