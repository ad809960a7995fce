"""Turn the answers of nodes and of tools into the findings of `ddqjobs doctor`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ddqjobs.base.findings import Line, error, ok, warning
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.units import size

SKEW_S = 5.0  # clocks that differ by more are worth a word
# (what, which) of the probe's shared-folder lines that must fail there, since the command line has the name.
_MUST_FAIL = "exclusive"


class Answer(Frozen, frozen=True, kw_only=True):
    """One line of what the probe says from a node."""

    what: str
    which: str
    code: int
    words: str


def read(text: str) -> list[Answer]:
    """The probe's answer; lines that are not whole are left out."""
    rows = (line.split("\t") for line in text.splitlines())
    return [
        Answer(what=row[0], which=row[1], code=int(row[2]), words=row[3].strip())
        for row in rows
        if len(row) == 4 and row[2].isdigit()
    ]


def judge(answers: Sequence[Answer], seen_here: Mapping[str, bool], results: str) -> Iterator[Line]:
    """Lines of what a node said. ``seen_here``: what the command line found of the node's doings."""
    yield _shared(answers, seen_here, results)
    by: dict[str, list[Answer]] = {}
    for answer in answers:
        by.setdefault(answer.what, []).append(answer)
    yield from _setup(by.get("setup", []))
    bad = [a for a in by.get("modules", []) if a.code]
    if by.get("modules"):
        remedy = "fix `modules:` or `setup:` of the site file; `module avail` on a node shows what there is"
        yield from (error("modules", f"{a.which}: {a.words or 'not found'}", remedy) for a in bad)
        if not bad:
            names = [a.which for a in by["modules"] if a.which != "command"]
            yield ok("modules", f"{', '.join(names)} load on a node")
    for a in by.get("environment", []):
        what = f"environment {a.which}"
        remedy = f"see that its folder is on the shared file system; `ddqjobs env verify {a.which}` on a node"
        yield (
            error(what, f"does not work on a node: {a.words}", remedy)
            if a.code
            else ok(what, f"works on a node: {a.words}")
        )
    missing = [a.which for a in by.get("path", []) if a.code]
    if missing:
        yield error("paths on a node", f"missing there: {', '.join(missing[:5])}", "link or copy them there")
    elif by.get("path"):
        yield ok("paths on a node", f"all {len(by['path'])} inputs and code trees are there too")


def _setup(answers: Sequence[Answer]) -> Iterator[Line]:
    """Yield what became of the site's setup lines; nothing where it has none."""
    bad = [a for a in answers if a.code]
    remedy = "fix `setup:` of the site file; put `|| true` behind what may fail"
    for a in bad:
        message = f"{a.which} ended with code {a.code}, and so would every job"
        yield error("setup", f"{message}: {a.words}" if a.words else message, remedy)
    if answers and not bad:
        yield ok("setup", "the site's setup lines succeed on a node")


def _shared(answers: Sequence[Answer], seen_here: Mapping[str, bool], results: str) -> Line:
    wrong = []
    for a in answers:
        if a.what == _MUST_FAIL and a.code == 0:
            wrong.append(f"a node could {a.which} a name that the command line has taken")
        elif a.what == "free" and a.code:
            wrong.append(f"a node cannot {a.which}")
    wrong += [fault for fault, seen in seen_here.items() if not seen]
    if wrong:
        remedy = f"{results} must be one folder, shared and written by both: set `results:` of the site file"
        return error("shared folder", "; ".join(wrong), remedy)
    return ok("shared folder", "creation is exclusive and rename replaces, between here and a node")


def clocks(skew_s: float, seen_after_s: float) -> Line:
    """``skew_s``: the node's clock less ours, when its first file appeared here."""
    message = f"a node's clock is {abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}"
    if abs(skew_s) > SKEW_S + seen_after_s:
        return warning(
            "clock", message, "have the clocks set (NTP): times in logs and reports will not agree"
        )
    return ok("clock", f"a node's clock agrees within {max(abs(skew_s), 0.1):.1f} s")


def space(free: int, checkpoint: int, trainings: int, kept: int) -> Line:
    """Free bytes against the checkpoints to come; ``checkpoint`` bytes each, 0 if nobody knows."""
    if not trainings:
        return ok("disk space", f"{size(free)} free, and no training to come")
    if not checkpoint:
        message = f"{size(free)} free; {trainings} trainings to come, of unknown checkpoint size"
        if free < 10**10:
            return warning("disk space", message, "make room, or set `results:` of the site file")
        return ok("disk space", message)
    need = checkpoint * trainings * kept
    message = f"{size(free)} free; {trainings} trainings leave about {size(need)} ({size(checkpoint)} each)"
    if free < 2 * checkpoint:
        return error("disk space", message, "make room: not one training will end")
    if free < need:
        return warning("disk space", message, "make room: `ddqjobs clean --dry-run` shows what may go")
    return ok("disk space", message)


def quotas(text: str) -> list[tuple[str, int, int]]:
    """(what, used, limit) of each limited row of `quota -w` or `lfs quota`: kilobytes and inodes, soft limits
    first. Numbers that carry a ``*`` are over the limit."""
    rows: list[tuple[str, int, int]] = []
    for line in text.splitlines():
        fields = line.split()
        numbers = [int(w.rstrip("*")) for w in fields[1:] if w.rstrip("*").isdecimal()]
        if len(fields) < 7 or len(numbers) < 6:
            continue
        blocks, files = numbers[:3], numbers[-3:]
        for what, (used, soft, hard) in (("kilobytes", blocks), ("inodes", files)):
            if soft or hard:
                rows.append((what, used, soft or hard))
    return rows
