"""Starts the processes of one node: one per GPU, by the launcher that the installed torch has.

    python -m ddqjobs.detect.launch torchrun PYTHON [-m MODULE | SCRIPT] ARGUMENT...
    python -m ddqjobs.detect.launch --port NUMBER      the first port from NUMBER on that can be bound

Where and how many comes from the job: ``DDQJOBS_NODES``, ``DDQJOBS_NODE_RANK``, ``DDQJOBS_GPUS`` (processes
on this node; without GPUs one), ``DDQJOBS_MASTER`` (host of rank 0) and ``DDQJOBS_PORT``. Standard library
only: torch is loaded by the launcher that is started.
"""

from __future__ import annotations

import os
import re
import runpy
import signal
import socket
import sys
from typing import Any, Mapping, Sequence

_USAGE = 2
_PORTS = 1000  # tried one after the other


class CannotLaunch(ValueError):
    """The command cannot be started by a launcher; the message is one line."""


def words(kind: str, command: Sequence[str], torch: str, job: Mapping[str, str]) -> list[str]:
    """Module and arguments of the launcher: ``["torch.distributed.run", "--nnodes", ...]``.

    ``kind`` is what the experiment names: ``torchrun`` tells a process its rank by ``LOCAL_RANK``;
    ``torch.distributed.launch`` by ``--local_rank`` too, which programs of torch 1.x require. From torch 2 on
    that launcher says ``--local-rank``, which they refuse, while they accept the variable. ``torch`` is the
    version installed, ``1.9.0+cu111``. Raises CannotLaunch.
    """
    major, minor = _version(torch)
    has_run = (major, minor) >= (1, 9)
    old = major < 2 and (kind == "torch.distributed.launch" or not has_run)
    module = ["torch.distributed.launch"] if old else ["torch.distributed.run"]
    if old and kind == "torchrun":
        module.append("--use_env")
    return [
        *module,
        f"--nnodes={_number(job, 'DDQJOBS_NODES', 1)}",
        f"--node_rank={_number(job, 'DDQJOBS_NODE_RANK', 0)}",
        f"--nproc_per_node={max(1, _number(job, 'DDQJOBS_GPUS', 1))}",
        f"--master_addr={job.get('DDQJOBS_MASTER') or '127.0.0.1'}",
        f"--master_port={_number(job, 'DDQJOBS_PORT', 29500)}",
        *_program(command),
    ]


def _program(command: Sequence[str]) -> list[str]:
    """Return what the launcher starts: it runs Python itself, so the interpreter goes."""
    if len(command) < 2 or not re.fullmatch(r"(?:.*/)?python[\d.]*", command[0]):
        raise CannotLaunch(f"a launcher starts Python programs, not {' '.join(command[:1]) or 'nothing'}")
    return list(command[1:])


def _version(text: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise CannotLaunch(f"invalid torch version {text!r}")
    return int(match.group(1)), int(match.group(2))


def _number(job: Mapping[str, str], name: str, default: int) -> int:
    text = job.get(name) or str(default)
    if not text.isdigit():
        raise CannotLaunch(f"{name}: {text!r} is not a number")
    return int(text)


def free_port(start: int) -> int:
    """The first port from ``start`` on that can be bound now, on all addresses. Raises CannotLaunch."""
    for port in range(start, start + _PORTS):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise CannotLaunch(f"none of the ports {start} to {start + _PORTS - 1} is free")


def _deaf_to_term() -> None:
    """Lets TERM pass: Slurm sends it to every process of a job that it preempts, and torch's launcher would
    kill its workers at once. They stop by themselves, at the stop file, after saving."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_handler = signal.signal

    def keep(number: Any, handler: Any) -> Any:
        return signal.SIG_IGN if number == signal.SIGTERM else set_handler(number, handler)

    signal.signal = keep  # type: ignore[assignment]


def main(argv: Sequence[str]) -> int:
    """Command line; see the module. The launcher's exit code, or 2 for what cannot be started."""
    try:
        if argv and argv[0] == "--port":
            print(free_port(_number({"port": argv[1]}, "port", 0)))
            return 0
        from importlib.metadata import version

        module, *rest = words(argv[0], argv[1:], version("torch"), os.environ)
    except (CannotLaunch, IndexError, ModuleNotFoundError) as error:
        print(f"launch: {error}", file=sys.stderr)
        return _USAGE
    _deaf_to_term()
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
