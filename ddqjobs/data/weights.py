"""Weights that runs read or would download at their start: where they must be, whether they are right, and
bringing them.

Whoever names weights in ``init_cfg`` (``torchvision://...``, ``open-mmlab://...``, ``https://...``) has
torch.hub load them, which looks in ``$TORCH_HOME/hub/checkpoints`` for the last part of the URL first and
does not ask whether it is whole. So they are put there under that name, checked, and jobs get TORCH_HOME.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path, PurePosixPath

from ddqjobs.base.errors import StateError, TransferError, refusal
from ddqjobs.base.files import create
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.paths import expanded
from ddqjobs.data.transfer import Limits, Progress, fetch, tidy
from ddqjobs.detect import files
from ddqjobs.detect.checks.pretrained import digits_in
from ddqjobs.spec.dataset import Weight
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run, TaskKind
from ddqjobs.spec.site import Site

DEFAULT_HOME = ".weights"
CACHE = "hub/checkpoints"  # below TORCH_HOME; torch.hub.get_dir() and load_state_dict_from_url()
CHECKSUMS = "checksums"  # below the project: what was seen the first time, as `sha256sum -c` reads it
_TRAINS = (TaskKind.TRAIN, TaskKind.SMOKE)  # only these start from a backbone's weights


class There(str, Enum):
    """The kinds of things at the place of weights."""

    RIGHT = "right"
    NEW = "first seen"  # nobody knows its checksum yet
    MISSING = "missing"
    WRONG = "wrong"


class Wanted(Frozen, frozen=True, kw_only=True):
    """Weights that somebody needs. ``declared``: digits that its SHA-256 begins with, by the experiment or by
    its name; ``recorded``: all of them, seen the first time."""

    name: str
    weight: Weight
    target: str
    declared: str = ""
    recorded: str = ""

    @property
    def file(self) -> str:
        """Name of the file."""
        return PurePosixPath(self.target).name

    @property
    def known(self) -> str:
        """Return what is known of its checksum, in words."""
        if self.recorded:
            return "recorded"
        if not self.declared:
            return "not known; recorded at first download"
        return "declared" if len(self.declared) == 64 else f"begins with {self.declared[:8]}"

    def mismatch(self, digest: str) -> str:
        """Return why this is not the file's SHA-256; empty if it may be."""
        if not digest.startswith(self.declared):
            return f"SHA-256 is {digest}, and should begin with {self.declared}"
        if self.recorded and digest != self.recorded:
            return f"SHA-256 is {digest}, and was {self.recorded} the first time ({CHECKSUMS}/)"
        return ""


class Found(Frozen, frozen=True, kw_only=True):
    """The file at the place of weights, and why it is wrong or could not be brought."""

    wanted: Wanted
    there: There
    why: str = ""
    sha256: str = ""
    brought: str = ""  # where it came from just now

    @property
    def bad(self) -> bool:
        """Wrong, or missing with a reason: it could not be brought, or cannot be."""
        return self.there is There.WRONG or (self.there is There.MISSING and bool(self.why))


def torch_home(experiment: Experiment, site: Site) -> str:
    """TORCH_HOME of jobs, as the site writes it; empty where the experiment has nothing in torch's cache."""
    if all(w.path for w in experiment.weights.values()):
        return ""
    return site.exported.get("TORCH_HOME") or site.weights or DEFAULT_HOME


def file_of(url: str) -> str:
    """The name under which torch.hub keeps what is at a URL."""
    return PurePosixPath(urllib.parse.urlparse(url).path).name


def wanted(
    experiment: Experiment, project: Path, site: Site, runs: Sequence[Run] | None = None
) -> list[Wanted]:
    """The experiment's weights; with ``runs`` only those that they need."""
    home = torch_home(experiment, site)
    needed = []
    for name, weight in experiment.weights.items():
        if runs is not None and not any(_needs(run, weight) for run in runs):
            continue
        text = weight.path or f"{home}/{CACHE}/{file_of(weight.url)}"
        target = expanded(project, text)
        needed.append(
            Wanted(
                name=name,
                weight=weight,
                target=str(target),
                declared=weight.sha256 or digits_in(target.name),
                recorded=_recorded(project, target.name),
            )
        )
    return needed


def _needs(run: Run, weight: Weight) -> bool:
    if weight.path:
        return any(value.path == weight.path for _, value in run.inputs)
    return run.kind in _TRAINS and (not weight.models or run.model in weight.models)


def absent(wanted_: Sequence[Wanted]) -> list[Wanted]:
    """Those of torch's cache that are not there, without reading the others."""
    return [w for w in wanted_ if not w.weight.path and not Path(w.target).is_file()]


def look(wanted_: Wanted, progress: Progress) -> Found:
    """Return what is there, read to its end. Raise StateError."""
    path = Path(wanted_.target)
    if not path.exists():
        return Found(wanted=wanted_, there=There.MISSING)
    try:
        progress(f"{wanted_.file}: checksum", 0, None)
        digest = files.sha256(path)
    except OSError as error:
        raise StateError(f"{path}: {refusal(error, path.parent)}") from error
    why = _wrong(wanted_, path, digest)
    if why:
        return Found(wanted=wanted_, there=There.WRONG, why=f"{path}: {why}", sha256=digest)
    there = There.RIGHT if wanted_.recorded or len(wanted_.declared) == 64 else There.NEW
    return Found(wanted=wanted_, there=there, sha256=digest)


def foresee(wanted_: Wanted, sources: Sequence[str], progress: Progress) -> Found:
    """Return what is there, and why :func:`bring` could not change that; no server is asked. Raise
    StateError."""
    outcome = look(wanted_, progress)
    if outcome.there is There.MISSING and not would_ask(wanted_, sources):
        return Found(wanted=wanted_, there=There.MISSING, why=_by_hand(wanted_, sources))
    return outcome


def bring(
    wanted_: Wanted, project: Path, sources: Sequence[str], progress: Progress, limits: Limits | None = None
) -> Found:
    """Return what is there afterwards: what was there if it is right, else what the first of the sources
    (folders and mirrors, then its own URL) had that is right. What is wrong is not replaced: it is the
    user's.

    Raises StateError; what could not be brought is told by the result.
    """
    outcome = look(wanted_, progress)
    if outcome.there is There.MISSING:
        outcome = _bring(wanted_, project, sources, progress, limits)
    else:
        tidy(Path(wanted_.target))
    if outcome.there is There.NEW:
        why = _record(wanted_, project, outcome.sha256)
        if why:
            return Found(wanted=wanted_, there=There.WRONG, why=f"{wanted_.target}: {why}")
    return outcome


def _bring(
    wanted_: Wanted, project: Path, sources: Sequence[str], progress: Progress, limits: Limits | None
) -> Found:
    def accept(path: Path, digest: str) -> str:
        return _wrong(wanted_, path, digest) or _record(wanted_, project, digest)

    reasons = []
    for source in _sources(wanted_, sources):
        try:
            digest = fetch(source, Path(wanted_.target), accept, progress, limits)
        except TransferError as error:
            reasons.append(str(error))
            continue
        return Found(wanted=wanted_, there=There.RIGHT, sha256=digest, brought=str(source))
    return Found(wanted=wanted_, there=There.MISSING, why="; ".join(reasons) or _by_hand(wanted_, sources))


def would_ask(wanted_: Wanted, sources: Sequence[str]) -> list[str]:
    """Return what :func:`bring` would try, one after the other."""
    return [str(source) for source in _sources(wanted_, sources)]


def _sources(wanted_: Wanted, sources: Sequence[str]) -> Iterator[str | Path]:
    for source in sources:
        if is_url(source):
            yield f"{source.rstrip('/')}/{urllib.parse.quote(wanted_.file)}"
        else:
            path = Path(source).expanduser() / wanted_.file
            if path.is_file():
                yield path
    if wanted_.weight.url:
        yield wanted_.weight.url


def is_url(text: str) -> bool:
    """Return whether it is to be asked for by http."""
    return text.startswith(("http://", "https://"))


def _by_hand(wanted_: Wanted, sources: Sequence[str]) -> str:
    where = f" from {wanted_.weight.page}" if wanted_.weight.page else ""
    looked = f"is not in {', '.join(sources)}, and " if sources else ""
    return f"{looked}has no URL that a program may use: bring it{where} to {wanted_.target}"


def _wrong(wanted_: Wanted, path: Path, digest: str) -> str:
    """Return why a file is not the one that is wanted. A login page that a proxy sends instead is no
    checkpoint."""
    why = wanted_.mismatch(digest)
    if not why and PurePosixPath(wanted_.target).suffix in (".pth", ".pt"):
        damage = files.damaged(path)
        why = f"is no whole checkpoint: {damage}" if damage else ""
    return why


def _recorded(project: Path, name: str) -> str:
    """The SHA-256 that was seen the first time; empty: none was. Raises StateError if a line has none."""
    path = project / CHECKSUMS / f"{name}.sha256"
    try:
        line = path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StateError(f"{path}: {refusal(error, path.parent)}") from error
    said = re.match(r"([0-9a-f]{64})\s", line)
    if said is None:
        raise StateError(
            f"{path}: does not begin with a SHA-256; fix it, or remove it to trust what is there"
        )
    return said[1]


def _record(wanted_: Wanted, project: Path, digest: str) -> str:
    """Keeps a checksum that was seen for the first time. Whoever comes second compares: why it differs."""
    path = project / CHECKSUMS / f"{wanted_.file}.sha256"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        first = create(path, f"{digest}  {wanted_.file}\n".encode())
    except OSError as error:
        raise StateError(f"{path}: {refusal(error, path.parent)}") from error
    recorded = digest if first else _recorded(project, wanted_.file)
    return "" if recorded == digest else f"SHA-256 is {digest}, and another terminal has just seen {recorded}"
