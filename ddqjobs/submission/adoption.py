"""Takes in results that exist already: a detector's work_dir, or a checkpoint of it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec

from ddqjobs.base import process
from ddqjobs.base.errors import InputError, MissingError, StateError
from ddqjobs.base.paths import PACKAGE
from ddqjobs.base.shell_variables import inherited
from ddqjobs.detect.job import exit_codes
from ddqjobs.spec.model import PlannedRun, Product, Status
from ddqjobs.store import evidence
from ddqjobs.store.layout import AttemptFolder, RunFolder
from ddqjobs.store.ledger import Finished
from ddqjobs.submission.workspace import Workspace

_TIMEOUT_S = 600.0


def adopt(workspace: Workspace, planned: PlannedRun, path: Path) -> Product:
    """Makes ``path`` the product of a run, as an attempt whose work_dir links to the files there.

    Raises MissingError, StateError (the run is active or done), InputError (nothing there is such a product).
    """
    run = planned.run
    path = path.expanduser().absolute()
    if not path.exists():
        raise MissingError(f"{path}: no such file or folder")
    if planned.status is Status.ACTIVE:
        raise StateError(
            f"{run.name} is active ({planned.reason}); cancel it first: `ddqjobs cancel {run.name}`"
        )
    if planned.status is Status.DONE and not planned.stale:
        raise StateError(f"{run.name} is done already; what it left stays")
    run_dir = workspace.store.run_dir(run.name)
    workspace.store.ledger.begin()  # runs without a ledger would stop every later command
    number, folder = _attempt(run_dir)
    ticket = f"adopted-{run.name}-{number}"
    _link(path, folder.work_dir)
    folder.run.write_bytes(msgspec.json.encode(run))
    workspace.store.claims.take(ticket, f"run\nadopted from {path}\n")
    product = _product(workspace, run_dir, number, folder, ticket, path)
    workspace.store.ledger.append(
        Finished(run=run.name, ticket=ticket, product=product, attempts=number, reason=f"adopted from {path}")
    )
    return product


def _attempt(run_dir: Path) -> tuple[int, AttemptFolder]:
    RunFolder(run_dir).attempts.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = RunFolder(run_dir).attempt(number)
        try:
            folder.path.mkdir()
        except FileExistsError:
            number += 1
        else:
            folder.work_dir.mkdir()
            return number, folder


def _link(path: Path, work_dir: Path) -> None:
    for source in sorted(path.iterdir()) if path.is_dir() else (path,):
        (work_dir / source.name).symlink_to(source)


def _product(
    workspace: Workspace, run_dir: Path, number: int, folder: AttemptFolder, ticket: str, path: Path
) -> Product:
    started = {"ticket": ticket, "job": "adopted", "host": "", "pid": os.getpid(), "at": time.time()}
    folder.started.write_bytes(msgspec.json.encode(started))
    variables = {
        "DDQJOBS_RUN_DIR": str(run_dir),
        "DDQJOBS_ATTEMPT": str(number),
        "DDQJOBS_ATTEMPT_DIR": str(folder.path),
        "DDQJOBS_WORK_DIR": str(folder.work_dir),
        "DDQJOBS_TICKET": ticket,
        "DDQJOBS_CLAIM": str(workspace.store.claims.path(ticket)),
        "DDQJOBS_STOP": str(folder.stop),
        "DDQJOBS_ADOPTED_FROM": str(path),
        "PYTHONPATH": str(PACKAGE.parent),
    }
    argv = [sys.executable, "-m", "ddqjobs.detect.product"]
    done = process.run(argv, timeout=_TIMEOUT_S, env={**inherited(os.environ), **variables})
    product = evidence.product(run_dir)
    if done.code != 0 or product is None or product.ticket != ticket:
        words = (done.stdout + done.stderr).strip().splitlines()
        why = words[-1] if words else f"exit {done.code}"
        said = {"code": exit_codes.NO_INPUT, "product": 3, "failure": "data", "note": "not adopted"}
        folder.exit.write_bytes(msgspec.json.encode(said) + b"\n")
        raise InputError(f"{path}: not adopted: {why}")
    return product
