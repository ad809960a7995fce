"""Let the replicas of a job find each other, when no variable tells them which is which.

    python -m ddqjobs.detect.meet call ALLOCATION --host H --count N --agent AGENT -- COMMAND...
    python -m ddqjobs.detect.meet join FOLDER --host H --count N --limit SECONDS [--allocation FILE]
    python -m ddqjobs.detect.meet follow FOLDER --limit SECONDS

``call`` starts the command on every host of the list but this one, for schedulers that start a script once.
``join`` prints this replica's rank as soon as all have come; ``follow`` prints what rank 0 has left for the
others (``FOLDER/started``). Exit code 71, and one line that says who is missing, otherwise.

The folder belongs to one job. A rank is a folder made by an exclusive ``mkdir``; how the meeting ended is a
file linked exclusively, so that all replicas see the same end, whoever was late. With a list of nodes the
ranks follow it. Host names are compared whole: n1 is not n10. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Mapping, Sequence

from . import files
from .job import exit_codes

_COMPLETE = "complete"
_PAUSE_S = 0.1


class NotMet(Exception):
    """The replicas did not meet; the message is one line."""


def hosts(text: str) -> list[str]:
    """Host names of an allocation file: the first word of each line, in order, once for each line.

    >>> hosts("n10 48 1\\nn1 48 1\\n")
    ['n10', 'n1']
    """
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def join(
    folder: Path,
    host: str,
    count: int,
    limit_s: float,
    order: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """This replica's rank, once all ``count`` have come.

    ``order`` are the hosts of an allocation, first rank first. Raises NotMet after ``limit_s`` seconds, for a
    start that is one too many, and for one that comes after the meeting has ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said = _verdict(folder)
    if said:
        raise NotMet(f"late or duplicate start: the job's replicas have already met ({said})")
    rank = _take(folder, host, count, order)
    (folder / f"rank_{rank}" / "host").write_text(host + "\n")
    end = clock() + limit_s
    while True:
        come = _come(folder, count)
        if len(come) == count:
            _decide(folder, _COMPLETE)
        elif clock() > end:
            verdict = f"{len(come)} of {count} replicas came within {limit_s:g} s: {_names(come)}"
            _decide(folder, verdict)
        said = _verdict(folder)
        if said == _COMPLETE:
            return rank
        if said:
            raise NotMet(said)
        sleep(_PAUSE_S)


def follow(
    folder: Path,
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return what rank 0 has left in ``started``. Raise NotMet when it has ended without, or after
    ``limit_s``."""
    end = clock() + limit_s
    while True:
        try:
            return (folder / "started").read_text().strip()
        except OSError:
            pass
        if (folder / "ended").exists() or not folder.exists():
            raise NotMet("rank 0 has ended before it started anything: see its output")
        if clock() > end:
            raise NotMet(f"rank 0 has started nothing within {limit_s:g} s")
        sleep(_PAUSE_S)


def call(order: Sequence[str], host: str, count: int, agent: str, command: Sequence[str]) -> None:
    """Starts the command once for each line of the list but this host's first one. Raises NotMet."""
    if len(order) != count:
        raise NotMet(f"the list of nodes has {len(order)} lines, not {count}: {' '.join(order)}")
    if host not in order:
        raise NotMet(f"this host, {host}, is not in the list of nodes: {' '.join(order)}")
    others = list(order)
    others.remove(host)
    for other in others:
        variables = [f"{name}={value}" for name, value in _passed_on(other, os.environ)]
        subprocess.Popen([agent, other, "env", *variables, *command], stdin=subprocess.DEVNULL)


def _passed_on(host: str, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """Variables that a start on another node needs: the job's, which its agent may not pass on."""
    job_variables = [(name, value) for name, value in variables.items() if name.startswith(("CCS", "BATCH_"))]
    return [*job_variables, ("DDQJOBS_CALLED", "1"), ("HOSTNAME", host)]


def _take(folder: Path, host: str, count: int, order: Sequence[str]) -> int:
    """Makes a rank this replica's own: one of its host's lines in the list, without a list the first free."""
    if order and len(order) != count:
        raise NotMet(f"the list of nodes has {len(order)} lines, not {count}: {' '.join(order)}")
    ranks = [n for n in range(count) if not order or order[n] == host]
    if not ranks:
        raise NotMet(f"this host, {host}, is not in the list of nodes: {' '.join(order)}")
    for rank in ranks:
        try:
            (folder / f"rank_{rank}").mkdir()
        except FileExistsError:
            continue
        return rank
    raise NotMet(f"one replica too many: {_names(_come(folder, count))}")


def _come(folder: Path, count: int) -> dict[int, str]:
    """rank -> host of those that are there."""
    replicas = {}
    for rank in range(count):
        try:
            name = (folder / f"rank_{rank}" / "host").read_text()
        except OSError:
            continue
        if name.endswith("\n"):
            replicas[rank] = name.strip()
    return replicas


def _names(come: Mapping[int, str]) -> str:
    return ", ".join(f"rank {rank} on {host}" for rank, host in sorted(come.items())) or "none"


def _decide(folder: Path, verdict: str) -> None:
    """Record how the meeting has ended; whoever says it first is right."""
    files.create(folder / "verdict", lambda own: own.write_text(verdict + "\n"))


def _verdict(folder: Path) -> str:
    try:
        return (folder / "verdict").read_text().strip()
    except OSError:
        return ""


def _order(path: str) -> list[str]:
    try:
        return hosts(Path(path).read_text()) if path else []
    except OSError as error:
        raise NotMet(f"the list of nodes, {path}, cannot be read: {error.strerror}") from error


def main(argv: Sequence[str]) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="ddqjobs.detect.meet", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["call", "join", "follow"])
    parser.add_argument("place")
    parser.add_argument("--host", default="")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300.0)
    parser.add_argument("--allocation", default="")
    parser.add_argument("--agent", default="")
    own, command = (list(argv), [])
    if "--" in own:
        own, command = own[: own.index("--")], own[own.index("--") + 1 :]
    args = parser.parse_args(own)
    try:
        if args.what == "call":
            call(_order(args.place), args.host, args.count, args.agent, command)
        elif args.what == "join":
            print(join(Path(args.place), args.host, args.count, args.limit, _order(args.allocation)))
        else:
            print(follow(Path(args.place), args.limit))
    except (NotMet, OSError) as error:
        print(f"meet: {error}", file=sys.stderr)
        return exit_codes.NOT_HERE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
