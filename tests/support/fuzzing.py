"""Files that mean harm, by the thousand: each is given to a command line in a process with limits."""

from __future__ import annotations

import contextlib
import copy
import json
import multiprocessing
import os
import re
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ddqjobs.cli.main import main
from tests.support.cli import TINY
from tests.support.paths import ROOT

CPU_S, MEMORY = 5, 500 << 20
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["ddqjobs.cli.main", __name__])
MOST_LINES = 51  # of messages


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# What a value may be replaced by, in the text of a file.
VALUES = (
    *("", "~", "null", "true", "no", "0", "-1", "1.0", "1e308", ".nan", "-.inf", "9" * 40, "9" * 5000),
    *("0x" + "f" * 300, "1:30", "010", "2024-01-01", "[]", "{}", "[[]]", "[null]", "{a: }", "{'': ''}", "''"),
    *('" "', "'a", '"\\0"', '"\\ud800"', '"\\x1b[2J"', '"\\u202e"', '"a\\nb"', "*a", "&a x", "&a [*a]"),
    *("<<: *a", "{<<: {a: b}}", "!!binary aGk=", "!!python/object/apply:os.system [true]", "!!set {a}"),
    *("? [a]", "{[a]: b}", "| \n  x", "> x", "%", "@", "`", "- - -", "[" * 2000, "{a: " * 2000, "- " * 2000),
    *("[" + "1, " * 20_000 + "]", "\ufeff", "\x85", "x" * 100_000, "a" * 300, "٣h", "３", "1_000", "+1"),
)
WORDS = (
    *("..", "/", "../../../etc/shadow", "/dev/zero", "/proc/self/mem", "~root", "a/../b", "path:/dev/stdin"),
    *("path:..", "first.out", "a.b.c", "{seed}", "{", "}", "{input.x}", "{{x}}", "{0}", "{x!r:>99999999}"),
    *("$(x)", "`x`", "%j", "--", "-x", "99999999999d", "1 parsec", "0s", "-1h", "1e9TB", "inf", "NaN"),
    *("**/**/**/**", "(a+)+$", "a,b", "a=b", "only", "shell", "train", "prepare", "mmdet::x.py", "--wrap=x"),
)
KEYS = (
    *_words("base name title tasks models codes phases variants implementations kind once code command"),
    *_words("commands inputs products options variables resources seeds hours optional paper checkpoints"),
    *_words("data config slurm donau local setup modules umask grace results environments limits python"),
    *("packages", "checks", "steps", "x", "<<", "''", "1", "null", "[a]", "? a"),
)
LEAVES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 10**40, 1.5, 1e308, float("nan"), float("inf"), "", " ", "a\0b", "a\nb"),
    *([], {}, [None], [[]], {"": ""}, "\ud800", "\x1b[2J", "\u202e", "a" * 300, "x" * 100_000, "9" * 5000),
    *(list(range(5000)), [f"s{i}" for i in range(3000)], {f"k{i}": i for i in range(3000)}),
    *WORDS,
)


@dataclass(frozen=True)
class Outcome:
    """The result of a call; a signal is a negative code."""

    code: int
    out: str
    err: str
    cpu_s: float
    mib: float

    def wrong(self, codes: Sequence[int] = (0, 2)) -> str:
        """Return what is wrong with it: neither a plan nor messages, one line each, and exit code 2."""
        lines = self.err.splitlines()
        if self.code not in codes or "Traceback" in self.err:
            return f"exit code {self.code}"
        if self.code == 2 and not 1 <= len(lines) <= MOST_LINES:
            return f"{len(lines)} lines"
        return "" if all(line.isprintable() for line in lines) else "control characters"


@dataclass
class Worst:
    """The cost of some inputs."""

    inputs: int = 0
    refused: int = 0
    cpu_s: float = 0.0
    mib: float = 0.0


def call(root: Path, *arguments: str) -> Outcome:
    """Run a command line in a new process, within :data:`CPU_S` and :data:`MEMORY`.

    It is a fork of a server that has imported the command line and nothing else: a fork of this process would
    begin with the memory of every test before.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = _CONTEXT.Process(target=_within_limits, args=(root, arguments, Path(folder)))
        process.start()
        process.join()
        out, err, used = (Path(folder, name) for name in ("out", "err", "used"))
        cpu_s, mib = json.loads(used.read_text()) if used.exists() else (CPU_S, 0.0)  # a signal leaves none
        code = process.exitcode
        assert code is not None
        return Outcome(code, _text(out), _text(err), cpu_s, mib)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""


def _within_limits(root: Path, arguments: Sequence[str], folder: Path) -> None:
    """Run a command line; leave what it printed and used in a folder, and end with its exit code."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    out, err = (os.open(folder / name, os.O_WRONLY | os.O_CREAT) for name in ("out", "err"))
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(descriptor, number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    code = 99
    try:
        code = _exit_code(root, arguments)
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
    used = resource.getrusage(resource.RUSAGE_SELF)
    (folder / "used").write_text(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
    os._exit(code)


def _exit_code(root: Path, arguments: Sequence[str]) -> int:
    sys.argv = ["ddqjobs", *arguments]
    os.chdir(root)
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@st.composite
def texts(draw: st.DrawFn, files: Sequence[str]) -> bytes:
    """Draw one of some files, with one to six changes of its text."""
    lines = draw(st.sampled_from(files)).split("\n")
    for _ in range(draw(st.integers(1, 6))):
        lines = _changed(draw, lines, draw(st.integers(0, len(lines) - 1))) or [""]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 19)) == 0:
        cut = draw(st.integers(0, len(data)))
        data = data[:cut] + draw(st.binary(max_size=8)) + data[cut:]
    return data


def _changed(draw: st.DrawFn, lines: list[str], at: int) -> list[str]:
    """Return lines with a change at one of them."""
    line, before, after = lines[at], lines[:at], lines[at + 1 :]
    head, colon, tail = line.partition(":")
    indent = line[: len(line) - len(line.lstrip(" -"))]
    kind = draw(st.sampled_from(_words("value value value key line drop again move text cut")))
    if kind == "value":
        return [*before, f"{head}{colon} {draw(st.sampled_from((*VALUES, *WORDS)))}", *after]
    if kind == "key":
        return [*before, f"{indent}{draw(st.sampled_from(KEYS))}{colon}{tail}", *after]
    if kind == "line":
        new = f"{indent}{draw(st.sampled_from(KEYS))}: {draw(st.sampled_from((*VALUES, *WORDS)))}"
        return [*before, new, line, *after]
    if kind == "drop":
        return [*before, *after[draw(st.integers(0, 4)) :]]
    if kind == "again":
        part = lines[at : at + draw(st.integers(1, 20))]
        return [*before, *(part * draw(st.sampled_from((1, 2, 500)))), line, *after]
    if kind == "move":
        return [*before, " " * draw(st.integers(0, 8)) + line.lstrip(" "), *after]
    if kind == "text":
        cut = draw(st.integers(0, len(line)))
        return [*before, line[:cut] + draw(st.text(max_size=8)) + line[cut:], *after]
    return [*before, line]


@st.composite
def trees(draw: st.DrawFn, files: Sequence[str]) -> bytes:
    """Draw the content of one of some files, with one to five values or keys replaced, as JSON."""
    tree = yaml.safe_load(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 5))):
        places = [place for place in _places(tree) if place]
        if not places:
            break
        path = draw(st.sampled_from(places))
        parent, last = _at(tree, path[:-1]), path[-1]
        kind = draw(st.sampled_from(_words("leaf leaf leaf leaf key other drop")))
        if kind == "drop":
            del parent[last]
        elif kind == "key" and isinstance(parent, dict):
            parent[draw(st.sampled_from((*KEYS, *WORDS)))] = parent.pop(last)
        elif kind == "other":
            parent[last] = copy.deepcopy(_at(tree, draw(st.sampled_from(places))))
        else:
            parent[last] = copy.deepcopy(draw(st.sampled_from(LEAVES)))
    content = json.dumps(tree, ensure_ascii=draw(st.booleans()), default=str)
    return content.encode("utf-8", "surrogatepass")


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in below:
        yield from _places(value, (*path, key))


def _at(tree: Any, path: Sequence[Any]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _shipped(pattern: str) -> list[str]:
    """Return the texts of shipped files, with the name that the tests give them."""
    contents = [path.read_text() for path in sorted(ROOT.glob(pattern))]
    return [re.sub(r"(?m)^name: .*", "name: y", text, count=1) for text in contents]


# Kind of file -> its place, what it is made of, and the commands that read it.
TARGETS = {
    "experiment": (
        "experiments/y.yaml",
        [TINY.replace("name: tiny", "name: y"), *_shipped("experiments/*.yaml")],
        [["plan", "y"], ["submit", "y", "--dry-run", "--site", "slurm"]],
    ),
    "site": (
        "templates/y/site.yaml",
        _shipped("templates/*/site.yaml"),
        [["submit", "tiny", "--dry-run", "--site", "y"]],
    ),
    "environment": (
        "envs/y/env.yaml",
        _shipped("envs/*/env.yaml"),
        [["env", "list"], ["env", "export", "y"]],
    ),
}


def fuzz(root: Path, kind: str, count: int) -> Worst:
    """Give that many changed files of a kind to its commands; return what they cost. Raise AssertionError for
    the first that ends in another way than it should."""
    place, files, commands = TARGETS[kind]
    (root / "experiments").mkdir(parents=True, exist_ok=True)
    (root / "experiments/tiny.yaml").write_text(TINY)
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    worst = Worst()

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(st.one_of(trees(files), trees(files), texts(files)))
    def look(data: bytes) -> None:
        path.write_bytes(data)
        for command in commands:
            outcome = call(root, *command)
            wrong = outcome.wrong()
            assert not wrong, f"{command}: {wrong}: {outcome.err[-2000:]}"
            worst.refused += outcome.code == 2
            worst.cpu_s, worst.mib = max(worst.cpu_s, outcome.cpu_s), max(worst.mib, outcome.mib)
            worst.inputs += 1

    look()
    return worst


@st.composite
def results(draw: st.DrawFn, files: dict[str, str]) -> tuple[str, bytes]:
    """Draw one of the files that runs and commands left, with changes of its text or of one of its values."""
    name = draw(st.sampled_from(sorted(files)))
    text = files[name]
    if not name.endswith((".json", ".jsonl")):
        return name, draw(texts([text]))
    lines = text.splitlines() if name.endswith("l") else [text]
    at = draw(st.integers(0, len(lines) - 1))
    changed = draw(st.one_of(trees([lines[at]]), trees([lines[at]]), texts([lines[at]])))
    return name, b"\n".join(
        [*(line.encode() for line in lines[:at]), changed, *(x.encode() for x in lines[at + 1 :])]
    )


RESULTS = [["status", "y"], ["report", "y"], ["report", "y", "-f", "html", "-o", "page.html"]]


def fuzz_results(root: Path, files: Sequence[Path], count: int) -> Worst:
    """As :func:`fuzz`, with the results of an experiment y that ran: some file is changed each time, and
    everything is as it was before the next. Code 3: a record names a job that no scheduler knows."""
    originals = {str(path.relative_to(root)): path.read_text() for path in files}
    whole = root.with_name("whole")
    shutil.copytree(root / "results", whole, symlinks=True)
    worst = Worst()

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(results(originals))
    def look(changed: tuple[str, bytes]) -> None:
        shutil.rmtree(root / "results")
        shutil.copytree(whole, root / "results", symlinks=True)
        (root / changed[0]).write_bytes(changed[1])
        for command in RESULTS:
            outcome = call(root, *command)
            wrong = outcome.wrong((0, 2, 3))
            assert not wrong, (
                f"{changed[0]}: {changed[1][-500:]!r}: {command}: {wrong}: {outcome.err[-2000:]}"
            )
            worst.refused += outcome.code == 2
            worst.cpu_s, worst.mib = max(worst.cpu_s, outcome.cpu_s), max(worst.mib, outcome.mib)
            worst.inputs += 1

    look()
    return worst
