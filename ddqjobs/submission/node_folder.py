"""The folder of a job that runs a command on a node: what was asked for, who waits for it, how it ended.

Below ``<base>/.jobs/submissions/``, named by the job's token::

    request.json   what was asked for
    owner.<n>      the command line that waits for it; a higher number has taken it over
    job.sh         the script, written right before it is submitted
    claims/        who decides: the job that starts (``run``), or a command line that gives it up (``void``)
    out/           command.log: what the command prints; beside it the scheduler's own output
    exit           the exit code, written last
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ddqjobs.base import files
from ddqjobs.base.errors import StateError, mend
from ddqjobs.base.frozen import Frozen, Owner
from ddqjobs.base.process import alive, myself
from ddqjobs.spec.model import Resources
from ddqjobs.store.claims import Claims
from ddqjobs.store.layout import Layout, SubmissionFolder
from ddqjobs.store.ledger import ticket_of

_KEPT_S = 7 * 86400.0  # a folder that nobody touched for so long is nobody's
_LOG = "command.log"


class Request(Frozen, frozen=True, kw_only=True):
    """The purpose of a job. Two equal requests mean the same work."""

    name: str  # in the queue, before the token
    command: tuple[str, ...]
    resources: Resources
    site: str
    follows: bool = False  # an earlier job of an equal request, left by a command line that died, will do


class NodeFolder:
    """The folder of one job, whoever submitted it."""

    def __init__(self, folder: SubmissionFolder, request: Request) -> None:
        self.path, self.script, self.out = folder.path, folder.script, folder.out
        self.log = folder.out / _LOG
        self.request = request
        self.token = folder.path.name
        self._claims = Claims(folder.path)
        self._ticket = ticket_of(self.token, 0)

    def code(self) -> int | None:
        """Return the exit code, or None as long as there is none."""
        try:
            return int((self.path / "exit").read_text())
        except (OSError, ValueError):
            return None

    def claimed_by(self) -> str | None:
        """Return the id of the job that has started; None if none has."""
        lines = _text(self._claims.path(self._ticket)).splitlines()
        if not lines or lines[0] != "run":
            return None
        return lines[1] if len(lines) > 1 and lines[1] else "unknown"

    def void(self) -> bool:
        """Make sure that the job never starts; False if it has started. Raises StateError."""
        try:
            return self._claims.void(self._ticket)
        except OSError as error:
            raise StateError(
                f"{self.path}: {error.strerror}; cannot tell whether the job may still start: "
                f"{mend(error)}, then run the same command again"
            ) from error

    def is_over(self) -> bool:
        """Tell from the folder alone that nothing of the job runs or will run."""
        if self.code() is not None or self._claims.holder(self._ticket) == "void":
            return True
        if not self.script.exists():
            return True
        return self.claimed_by() is not None and _age_s(self.path) > _KEPT_S

    def last_words(self) -> str:
        """Return the last line of what the command printed, or else of the scheduler's own output."""
        others = sorted(path for path in self.out.glob("*") if path.suffix in (".log", ".out"))
        for text in map(_text, (self.log, *others)):
            if text.strip():
                return text.strip().splitlines()[-1].strip()[:200]
        return ""

    def remove(self) -> None:
        """Remove the folder. It loses its name first: nobody can claim what is half removed."""
        gone = self.path.with_name(f".gone-{self.token}")
        with contextlib.suppress(OSError):
            self.path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def abandoned(self) -> int | None:
        """Return the number of the newest owner if that process is gone; None if it may live."""
        suffixes = [path.suffix[1:] for path in self.path.glob("owner.*")]
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            number = max(int(suffix) for suffix in suffixes if suffix.isdecimal())
            owner = msgspec.json.decode((self.path / f"owner.{number}").read_bytes(), type=Owner)
            elsewhere = owner.host != myself().host
            if not alive(owner) or (elsewhere and _age_s(self.path) > _KEPT_S):
                return number
        return None

    def take_over(self, number: int) -> bool:
        """Become the owner after ``number``; of two command lines that try, one succeeds."""
        return files.create(self.path / f"owner.{number + 1}", msgspec.json.encode(myself()))


def create(base: Layout, token: str, request: Request) -> NodeFolder:
    """Make the folder of a new job, which is whole as soon as it has its name. Raises OSError."""
    folder = base.submission(token)
    draft = SubmissionFolder(folder.path.with_name(f".new-{token}"))
    draft.out.mkdir(parents=True)
    Layout(draft.path).claims.mkdir()
    (draft.out / _LOG).touch()
    (draft.path / "request.json").write_bytes(msgspec.json.encode(request))
    (draft.path / "owner.0").write_bytes(msgspec.json.encode(myself()))
    draft.path.rename(folder.path)
    return NodeFolder(folder, request)


def existing(base: Layout) -> Iterator[NodeFolder]:
    """Yield the folders of earlier jobs, oldest first; remove what was never finished or half removed."""
    submissions = base.submission("any").path.parent
    for path in sorted(submissions.iterdir()) if submissions.is_dir() else ():
        if path.name.startswith("."):
            if _age_s(path) > _KEPT_S:
                shutil.rmtree(path, ignore_errors=True)
            continue
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            request = msgspec.json.decode((path / "request.json").read_bytes(), type=Request)
            yield NodeFolder(base.submission(path.name), request)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
