"""Rows of training logs, and how they become one curve. Pure; standard library only.

A library's own numbers do not always say where a row belongs: mmengine may number validations of an
iteration-based training by epochs, of which it has none (always 0); mmcv 1.x numbers a validation by the
length of the validation's loader, and calls a pass over the data an epoch also where only iterations count.
So the place of a validation is the training row that it follows, corrected by what the library tells.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Tuple, Union

Place = Tuple[int, int, int]
# What rows of validations have beside their metrics.
_BESIDE = frozenset({"lr", "time", "data_time", "memory"})


class Train(NamedTuple):
    """Logged values of one training iteration (or their mean over the log processor's window)."""

    epoch: int  # from 1; 0 in iteration-based trainings
    iteration: int  # in the epoch, from 1; 0 in mmengine's logs, which do not tell
    step: int  # over all epochs, from 1; 0 in mmcv's logs, which do not tell
    values: dict[str, float]  # loss, loss_cls, lr, grad_norm, time, ...

    @property
    def place(self) -> Place:
        """Tuples compare in order: epoch, then iteration (mmcv) or step (mmengine), whichever is logged."""
        return self.epoch, self.iteration, self.step


class Val(NamedTuple):
    """Metrics of a validation, fractions; -1 where a class of areas is empty.

    As parsed, ``epoch`` is what the line says, in mmengine an epoch or an iteration; merged rows tell both.
    """

    epoch: int  # of the training; 0 in iteration-based ones
    values: dict[str, float]  # bbox_mAP, bbox_mAP_50, ...
    step: int = 0  # iteration over all epochs that it follows, the last one logged if not told; 0: unknown


class Test(NamedTuple):
    """Metrics of a test run, fractions; -1 where a class of areas is empty."""

    values: dict[str, float]


Test.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test case
Row = Union[Train, Val, Test]


def merge(rows: Iterable[Row]) -> tuple[list[Train], list[Val], list[Test]]:
    """Return one curve from rows in order of writing. Where the training went back (a resume restarts its
    epoch, a restart begins anew) the earlier rows from there on are dropped, validations included."""
    rows = list(rows)
    curve = _Curve()
    passes = _counted_on(rows)
    by_iterations = passes or _validated_inside(rows)
    for row in rows:
        if isinstance(row, Train):
            curve.train_row(Train(0, 0, row.step or row.iteration, row.values) if by_iterations else row)
        elif isinstance(row, Val):
            curve.val_row(row._replace(epoch=0) if passes else row)
    length = max((row.iteration for row in curve.train), default=0)
    val = [_with_step(row, place, length) for row, place in curve.val]
    return curve.train, val, [row for row in rows if isinstance(row, Test)]


class _Curve:
    """Training and validations as far as they are read; of each validation the place of the training row
    that it follows."""

    def __init__(self) -> None:
        self.train: list[Train] = []
        self.val: list[tuple[Val, Place]] = []

    def train_row(self, row: Train) -> None:
        while self.train and self.train[-1].place >= row.place:
            self.train.pop()
        while self.val and (self.val[-1][1] >= row.place or self.val[-1][0].epoch > row.epoch > 0):
            self.val.pop()
        while self.val and row.epoch == 0 and self.val[-1][0].step > row.step:
            self.val.pop()
        self.train.append(row)

    def val_row(self, row: Val) -> None:
        last = self.train[-1] if self.train else None
        told = row.step or row.epoch
        row = _resolved(row, last)
        if last is not None and last.epoch == 0 and told:
            while self.train and self.train[-1].step > row.step:
                self.train.pop()
        while self.val and (self.val[-1][0].epoch, self.val[-1][0].step) > (row.epoch, row.step or 1 << 53):
            self.val.pop()
        place = self.train[-1].place if self.train else (0, 0, 0)
        if self.val and self._again(row, place, bool(told)):
            before, _ = self.val.pop()
            if not (before.values.keys() & row.values.keys()) - _BESIDE:
                row = row._replace(values={**before.values, **row.values})
        self.val.append((row, place))

    def _again(self, row: Val, place: Place, told: bool) -> bool:
        """Tell whether the last validation was at the same place, so that this one repeats or completes
        it."""
        before, there = self.val[-1]
        return told and (before.epoch, before.step) == (row.epoch, row.step) and there == place


def _resolved(row: Val, last: Train | None) -> Val:
    """The validation with what its line says taken for what it is, by the training row before it."""
    if row.step or last is None or last.iteration:
        return row
    told = row.epoch
    if last.epoch == 0:
        return Val(0, row.values, told or last.step)
    # mmengine's hook numbers by iterations if it is told so: log_metric_by_epoch=False.
    return Val(last.epoch, row.values, told) if told >= last.step > last.epoch else row


def _with_step(row: Val, place: Place, length: int) -> Val:
    """The validation with the iteration over all epochs that it follows, if that is known."""
    epoch, iteration, step = place
    known = step or (epoch - 1) * length + iteration
    return row if row.step or known <= 0 else row._replace(step=known)


def _validated_inside(rows: list[Row]) -> bool:
    """Tell whether what mmengine's rows call an epoch is none: validations are made in its middle."""
    last, before = None, (0, 0)
    for row in rows:
        if isinstance(row, Train):
            last = row
        elif isinstance(row, Val) and last is not None and last.step and last.epoch and not row.step:
            epoch, told = before
            if row.epoch == 0 or (epoch == last.epoch and row.epoch > told > 0):
                return True
            before = (last.epoch, row.epoch)
    return False


def _counted_on(rows: list[Row]) -> bool:
    """Tell whether what mmcv 1.x's rows call epochs are passes over the data: iterations count on where the
    next begins."""
    train = [row for row in rows if isinstance(row, Train) and row.iteration]
    changes = [(a, b) for a, b in zip(train, train[1:]) if b.epoch > a.epoch]
    return bool(changes) and all(b.iteration > a.iteration for a, b in changes)
