"""Name the places of everything of one experiment: every path below ``results/<experiment>/`` is made here.

::

    format.json                                     what can read the folder (store.results_format)
    ledger/<host>-<pid>-<start>-<random>.jsonl      what was submitted (store.ledger)
    reservations/<run>~<k>  claims/<ticket>         who may submit a run, who may run it (store.claims)
    code/<digest>/                                  snapshots of task code
    submissions/<token>/  job.sh elements.sh secret_setup.sh secrets.sh manifest.jsonl out/
    runs/<run>/           product.json artifacts/ attempts/<n>/
    runs/<run>/attempts/<n>/  run.json started.json exit.json stop stdout.log product.json work_dir/
    removed/<run>.<time>-<random>/  folders of runs that `ddqjobs remove` took away; may be deleted
    shells/               scripts of interactive shells, while they run
    checks/<key>          configurations that passed their check (submission.checking)
    checks/<key>.job      whether the scheduler would take a kind of job (submission.impossible)
    .jobs/submissions/<token>/  jobs that are no runs, while they run (submission.node_folder)
    notifications/<scope>/  what is to be told, and what was (notify.outbox)
    report/cache/         what reports would else compute again; may be deleted

Jobs use the same names without importing this module: ``templates/base.sh.j2`` and ``ddqjobs.detect``. A test
compares them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PRODUCT = "product.json"
_ATTEMPTS = "attempts"
_WORK_DIR = "work_dir"
_RUNS = "runs"
_LEDGER = "ledger"


@dataclass(frozen=True)
class AttemptFolder:
    """The folder of one attempt of a run."""

    path: Path

    @property
    def run(self) -> Path:
        """The frozen run that was started."""
        return self.path / "run.json"

    @property
    def started(self) -> Path:
        """Ticket, job, host and time of the start."""
        return self.path / "started.json"

    @property
    def exit(self) -> Path:
        """The script's last word."""
        return self.path / "exit.json"

    @property
    def stop(self) -> Path:
        """Exists as soon as the attempt is asked to stop."""
        return self.path / "stop"

    @property
    def log(self) -> Path:
        """Everything that the attempt prints."""
        return self.path / "stdout.log"

    @property
    def product(self) -> Path:
        """Return the path of what this attempt left, whether or not it speaks for the run."""
        return self.path / PRODUCT

    @property
    def work_dir(self) -> Path:
        """The folder that the task writes to."""
        return self.path / _WORK_DIR


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def product(self) -> Path:
        """Return the path of what speaks for the run."""
        return self.path / PRODUCT

    @property
    def artifacts(self) -> Path:
        """Links to the files of the product, by artifact."""
        return self.path / "artifacts"

    @property
    def attempts(self) -> Path:
        """Folder of the attempts."""
        return self.path / _ATTEMPTS

    def attempt(self, number: int) -> AttemptFolder:
        """Return the folder of an attempt, counted from 1."""
        return AttemptFolder(self.attempts / str(number))

    def checkpoints(self) -> Iterator[Path]:
        """Yield the ``.pth`` files in the work_dirs of all attempts."""
        return self.path.glob(f"{_ATTEMPTS}/*/{_WORK_DIR}/*.pth")


@dataclass(frozen=True)
class SubmissionFolder:
    """The folder of one submission."""

    path: Path

    @property
    def script(self) -> Path:
        """The job script."""
        return self.path / "job.sh"

    @property
    def elements(self) -> Path:
        """One shell function per array element; absent where there is only one."""
        return self.path / "elements.sh"

    @property
    def manifest(self) -> Path:
        """One frozen run per array element, as JSON lines."""
        return self.path / "manifest.jsonl"

    @property
    def secret_setup(self) -> Path:
        """The site's setup lines, for their owner only; absent where they show no secret."""
        return self.path / "secret_setup.sh"

    @property
    def secrets(self) -> Path:
        """Secrets of its runs, for their owner only; absent without any."""
        return self.path / "secrets.sh"

    @property
    def locks(self) -> Path:
        """Return the path of what the locks of its runs' environments say."""
        return self.path / "locks.json"

    @property
    def out(self) -> Path:
        """Folder of the scheduler's own output."""
        return self.path / "out"


@dataclass(frozen=True)
class Layout:
    """The folder of one experiment's results."""

    root: Path

    @property
    def ledger(self) -> Path:
        """Folder of the ledger's segments."""
        return self.root / _LEDGER

    @property
    def format(self) -> Path:
        """The format of the folder, and the ddqjobs that made it."""
        return self.root / "format.json"

    @property
    def claims(self) -> Path:
        """Folder of the claims, one file per ticket that has started or is void."""
        return self.root / "claims"

    @property
    def reservations(self) -> Path:
        """Folder of the reservations, one file per run and submission of it."""
        return self.root / "reservations"

    @property
    def code(self) -> Path:
        """Folder of the code snapshots."""
        return self.root / "code"

    @property
    def runs(self) -> Path:
        """Folder of the run folders."""
        return self.root / _RUNS

    @property
    def submissions(self) -> Path:
        """Folder of the submissions."""
        return self.root / "submissions"

    @property
    def removed(self) -> Path:
        """Folder of the run folders that a user removed, on the disk of the runs: ``runs`` may be a link."""
        runs = self.runs
        return (Path(os.path.realpath(runs)) if runs.is_symlink() else runs).with_name("removed")

    @property
    def checks(self) -> Path:
        """Folder of the checks of configurations that passed, an empty file each."""
        return self.root / "checks"

    @property
    def shells(self) -> Path:
        """Folder of the scripts of interactive shells."""
        return self.root / "shells"

    @property
    def notifications(self) -> Path:
        """Folder of what is to be told, and of what was."""
        return self.root / "notifications"

    @property
    def report(self) -> Path:
        """Folder of reports, where a user names none."""
        return self.root / "report"

    @property
    def cache(self) -> Path:
        """Folder of what reports would else compute again."""
        return self.report / "cache"

    def resolved(self) -> Path:
        """Return the folder of the configurations that runs of all experiments had
        (:mod:`ddqjobs.detect.checks.resolved`)."""
        return self.root.parent / ".resolved"

    def node_jobs(self) -> Layout:
        """Return the layout of the jobs that are no runs."""
        return Layout(self.root / ".jobs")

    def run(self, name: str) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.runs / name)

    def submission(self, token: str) -> SubmissionFolder:
        """Return the folder of a submission."""
        return SubmissionFolder(self.submissions / token)

    def in_run(self, name: str, relative: str) -> str:
        """Return a path below a run's folder as text: ten thousand Path objects take longer to make than
        the disk takes to answer."""
        return f"{self.root}/{_RUNS}/{name}/{relative}"

    def checkpoints(self) -> Iterator[Path]:
        """Yield the ``.pth`` files in the work_dirs of all runs."""
        return self.root.glob(f"{_RUNS}/*/{_ATTEMPTS}/*/{_WORK_DIR}/*.pth")


def project_folder(start: Path) -> Path:
    """Return the nearest folder upwards with an ``experiments`` or a ``results`` folder, else ``start``."""
    for folder in (start, *start.parents):
        if (folder / "experiments").is_dir() or has_results(folder):
            return folder
    return start


def has_results(project: Path) -> bool:
    """Return whether any experiment of a project was ever submitted."""
    return bool(ledgers(project / "results"))


def ledgers(results: Path) -> list[Path]:
    """Return the ledgers of all experiments below a folder of results."""
    return sorted(results.glob(f"*/{_LEDGER}"))
