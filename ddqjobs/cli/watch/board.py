"""Turn plan and progress into the lines of one screen of `status --watch`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ddqjobs.base.narrow import listed
from ddqjobs.base.text import clean, fit, format_table
from ddqjobs.cli.describe import progress_text
from ddqjobs.cli.output import COLOURS, style
from ddqjobs.cli.overview import state

if TYPE_CHECKING:
    from ddqjobs.detect.job.training_progress import Progress
    from ddqjobs.spec.model import Plan
    from ddqjobs.submission.workspace import RunState

BAR = 10  # cells of a run's progress bar
PHASE_BAR, LEAST_BAR = 20, 4  # of a phase: what the others do is worth more than a long bar
WIDE = 100  # columns from which nodes are shown too
_BLOCKS = ("█", "░")
_PLAIN = ("#", "-")  # where the terminal's encoding has no blocks

# What `f` goes through.
SHOWN: tuple[tuple[str, Callable[[RunState], bool]], ...] = (
    ("all", lambda _: True),
    ("not done", lambda s: s.planned.status.value != "done"),
    ("active", lambda s: s.planned.status.value == "active"),
    ("failed", lambda s: s.planned.status.value == "failed"),
)


class View(NamedTuple):
    """The user's view: filter, search, place."""

    shown: int = 0  # index into SHOWN
    top: int = 0  # the first row on the screen
    cursor: int = 0  # the row that Enter, R and C are about
    search: str = ""  # in names and reasons
    typing: bool = False  # at the search
    log: str = ""  # the run whose log is shown
    question: tuple[str, str] | None = None  # (retry or cancel, run): waits for y

    @property
    def busy(self) -> bool:
        """Return whether the user is at something that must not vanish."""
        return bool(self.typing or self.log or self.question)


class Size(NamedTuple):
    """Of the terminal, in cells."""

    columns: int
    rows: int


class Screen(NamedTuple):
    """As many lines as the terminal has rows, the last one without an end; and what scrolling needs."""

    lines: list[str]
    view: View  # with a top that is not beyond the end
    page: int  # runs on the screen
    there: int  # runs to look at
    run: RunState | None = None  # under the cursor


def chosen(states: Sequence[RunState], view: View) -> list[RunState]:
    """Return the runs that the filter and the search leave."""
    word = view.search.lower()
    return [
        s
        for s in states
        if SHOWN[view.shown][1](s)
        and (word in s.planned.run.name.lower() or word in s.planned.reason.lower())
    ]


def draw(
    plan: Plan, states: Sequence[RunState], view: View, size: Size, *, head: str, note: str = "",
    blocks: bool = True,
) -> Screen:  # fmt: skip
    """The screen. ``head`` stands at the right end of the first line, ``note`` is what went wrong."""
    top = _summary(plan, states, size, head, blocks)
    runs = chosen(states, view)
    cursor = max(0, min(view.cursor, len(runs) - 1))
    header, rows = _table(runs, size, blocks, cursor)
    room = size.rows - len(top) - 1 - bool(note) - len(header)
    page = max(1, room // max(map(len, rows), default=1))
    first = max(0, min(max(view.top, cursor - page + 1), cursor, len(runs) - page))
    body = [*header, *(line for lines in rows[first : first + page] for line in lines)]
    body = body or [_nothing(view)]
    lines = [*top, *body][: size.rows - 1 - bool(note)]
    lines += [""] * (size.rows - 1 - bool(note) - len(lines))
    if note:
        lines.append(style(fit(clean(note), size.columns), fg="yellow"))
    lines.append(_last_line(view, first, page, len(runs), size))
    view = view._replace(top=first, cursor=cursor)
    return Screen(lines[-size.rows :], view, page, len(runs), runs[cursor] if runs else None)


def _nothing(view: View) -> str:
    """Return why no run is shown."""
    said = [f"is {SHOWN[view.shown][0]}"] if view.shown else []
    said += [f"has '{clean(view.search)}'"] if view.search else []
    return "no run " + (" and ".join(said) or "is there")


def fraction(progress: Progress | None) -> float | None:
    """Return how much of a training is done, 0 to 1; None if its log does not tell."""
    if progress is None:
        return None
    within = (progress.iteration or 0) / progress.iterations if progress.iterations else 0.0
    if progress.epoch is None and progress.iterations:
        return min(1.0, within)
    if progress.epoch is None or not progress.epochs:
        return None
    return max(0.0, min(1.0, (progress.epoch - 1 + within) / progress.epochs))


def bar(part: float, cells: int, blocks: bool = True) -> str:
    """``█████░░░░░``; full only when all is done."""
    full, empty = _BLOCKS if blocks else _PLAIN
    filled = int(part * cells)
    return full * filled + empty * (cells - filled)


def _summary(plan: Plan, states: Sequence[RunState], size: Size, head: str, blocks: bool) -> list[str]:
    """One line for all, and one per phase, for at most a third of the screen."""
    title = f"{plan.experiment} on {plan.site}"
    title += " " * max(2, size.columns - len(title) - len(head)) + head
    phases = sorted({s.planned.run.phase for s in states})
    rows: list[tuple[str, float, str, str]] = []
    if len(phases) > 1 and len(phases) + 1 <= size.rows // 3:
        rows = [(f"phase {phase or '-'}", *_counts([s for s in states if s.planned.run.phase == phase]))
                for phase in phases]  # fmt: skip
    rows.append(("all", *_counts(states)))
    texts = [(name, done, rest) for name, _, done, rest in rows]
    others = sum(max(map(len, column)) + 2 for column in zip(*texts, strict=True))
    length = max(LEAST_BAR, min(PHASE_BAR, size.columns - others))
    lines = [(name, bar(part, length, blocks), done, rest) for name, part, done, rest in rows]
    return [
        style(fit(title, size.columns), bold=True),
        *format_table((), lines, align="llrl", width=size.columns).split("\n"),
        "",
    ]


def _counts(states: Sequence[RunState]) -> tuple[float, str, str]:
    """(done part, done of all, what the others do, the most urgent first)."""
    counts: dict[str, int] = {}
    for s in states:
        counts[state(s.planned)] = counts.get(state(s.planned), 0) + 1
    done = counts.pop("done", 0)
    order = (
        "failed",
        "cancelled",
        "running",
        "unknown",
        "stopped",
        "held",
        "queued",
        "ended",
        "active",
        "eligible",
        "waiting",
    )
    rest = ", ".join(f"{counts[word]} {word}" for word in order if word in counts)
    return done / max(1, len(states)), f"{done}/{len(states)}", rest


def _table(
    states: Sequence[RunState], size: Size, blocks: bool, cursor: int
) -> tuple[list[str], list[list[str]]]:
    """Return the header's lines and those of each run; the cursor's stand out."""
    wide = size.columns >= WIDE
    header = ("RUN", "STATE", *(("NODE",) if wide else ()), "PROGRESS, REASON")
    rows = []
    for s in states:
        planned = s.planned
        rows.append(
            (planned.run.name, state(s.planned), *((planned.node,) if wide else ()), _what(s, wide, blocks))
        )
    if not rows:
        return [], []

    def paint(row: int, title: str, text: str) -> str:
        if row < 0:
            return style(text, bold=True)
        if row == cursor:
            return text
        return style(text, fg=COLOURS.get(text.strip(), COLOURS["active"]) if title == "STATE" else None)

    first, *lines = listed(header, rows, width=size.columns, leave_out=("NODE",), paint=paint)
    lines[cursor] = [style(line, reverse=True) for line in lines[cursor]]
    return first, lines


def _what(s: RunState, wide: bool, blocks: bool) -> str:
    """A bar and figures of what runs, the reason of what does not."""
    from ddqjobs.base.units import clock

    progress, part = s.progress, fraction(s.progress)
    if part is None:
        text = progress_text(progress)
        return text or "; ".join(filter(None, [s.planned.stale or s.planned.reason, *s.planned.notes]))
    eta = f"eta {clock(progress.eta_s)}" if progress and progress.eta_s is not None else ""
    figures = progress_text(progress) if wide else eta
    return f"{bar(part, BAR, blocks)} {int(100 * part):3d}% {figures}".rstrip()


def _last_line(view: View, first: int, page: int, count: int, size: Size) -> str:
    """Return a question, the search that is typed, or the keys, as many as there is room for."""
    if view.question:
        what, run = view.question
        text = f"{what} {run}? y: yes   any other key: no"
    elif view.typing:
        text = f"/{view.search}_   Enter: keep   Esc: clear"
    else:
        there = f"{first + 1}-{min(count, first + page)} of {count}" if count else "none"
        shown = SHOWN[view.shown][0] + (f" /{view.search}" if view.search else "")
        long = f"q leaves, jobs go on   arrows, PgUp, PgDn: {there}   f shows: {shown}   r asks now"
        short = f"q leaves  PgUp PgDn {there}  f: {shown}  r: now"
        texts = (
            f"{long}   Enter log   / search   R retry   C cancel",
            f"{long}   Enter log   / R C",
            f"{short}  Enter: log  / R C",
            short,
        )
        text = next((t for t in texts if len(t) <= size.columns), short)
    return style(fit(clean(text).ljust(size.columns), size.columns), reverse=True)
