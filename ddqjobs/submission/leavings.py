"""Read what a training or a test of mmdet 2.x or 3.x left in its work_dir, without running anything of it."""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddqjobs.detect import product
from ddqjobs.detect.job import live, logs
from ddqjobs.planning import settings

_LARGEST_PICKLE = 64 << 20  # bytes of a checkpoint's index; DDQ DETR's has 0.5 MB
_HEAD = 256 << 10  # bytes of a log that its header lies in
_LARGEST_EVALUATION = 1 << 20
_VERSION = re.compile(r"^\s*(PyTorch|MMDetection|MMCV|MMEngine): (\d\S*)\s*$", re.MULTILINE)
_GPUS = re.compile(r"^\s*GPU number: (\d{1,6})\s*$", re.MULTILINE)
_GPU_IDS = re.compile(r"^gpu_ids = (?:range\(0, (\d{1,6})\)|\[([\d, ]*)\])", re.MULTILINE)
_SEED = re.compile(r"^\s*seed: (\d{1,20})\s*$|[Ss]et random seed to (\d{1,20})", re.MULTILINE)


# What is read of a checkpoint: mmcv calls its configuration `config`, mmengine `cfg`.
_META: dict[str, type] = {"epoch": int, "iter": int, "seed": int, "cfg": str, "config": str}
# The versions that it may tell, by the names that the header of a log has for them.
_VERSIONS = {"mmengine_version": "MMEngine", "mmcv_version": "MMCV", "mmdet_version": "MMDetection"}
_NO_LENGTH = live.Length()


@dataclass(frozen=True)
class Checkpoint:
    """The facts about a training that its checkpoint tells."""

    config: str = ""
    epoch: int | None = None
    iteration: int | None = None
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """The lines of a log before its first iteration."""

    seed: int | None = None
    gpus: int | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """One ``eval_*.json`` of mmdet 2.x."""

    name: str
    config: str
    ap: float | None


@dataclass(frozen=True)
class Left:
    """The files in a work_dir; of a bare checkpoint only itself (``folder`` is None)."""

    folder: Path | None
    name: str | None = None  # of the checkpoint that counts
    checkpoint: Checkpoint | None = None
    config: str = ""  # as the training or test wrote it out
    config_names: tuple[str, ...] = ()
    log: logs.Log | None = None
    header: Header = Header()
    length: live.Length = _NO_LENGTH
    may_end_early: bool = False
    tested: Path | None = None  # the checkpoint that a test names
    evaluations: tuple[Evaluation, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Left:
        """Read a work_dir or a checkpoint. What cannot be read says nothing."""
        if not path.is_dir():
            checkpoint = read_checkpoint(path)
            length = _length(checkpoint.config) if checkpoint else live.Length()
            return cls(None, path.name, checkpoint, length=length)
        last = product.final_checkpoint(path)
        config, names = _config(path)
        tested = settings.of_text(config).get("load_from") if config else None
        return cls(
            folder=path,
            name=last.name if last else None,
            checkpoint=read_checkpoint(last) if last else None,
            config=config,
            config_names=names,
            log=logs.read(path),
            header=_header(path, config),
            length=live.length(path),
            may_end_early=live.stops_early(path),
            tested=Path(tested) if isinstance(tested, str) and tested else None,
            evaluations=tuple(_evaluations(path)),
        )

    def reached(self, unit: str) -> int | None:
        """Return the last epoch or iteration of the log; None without any."""
        if self.log is None or not self.log.train:
            return None
        last = self.log.train[-1]
        return last.epoch if unit == "epoch" else max(last.step, last.iteration)

    @property
    def validated(self) -> int | None:
        """Return where the last validation was: its epoch, or its iteration where there are no epochs."""
        last = self.log.val[-1] if self.log is not None and self.log.val else None
        return None if last is None else last.epoch or last.step


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Return what the ``meta`` at the beginning of a checkpoint says; None for what is no zip of torch's. Its
    pickle is looked through, never loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            index = next((i for i in archive.infolist() if i.filename.endswith("/data.pkl")), None)
            if index is None or index.file_size > _LARGEST_PICKLE:
                return None
            data = archive.read(index)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None
    meta: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for key, value in _pairs(data):
        if key in _VERSIONS and isinstance(value, str):
            versions.setdefault(_VERSIONS[key], value)
        if key in _META and isinstance(value, _META[key]):
            meta.setdefault("config" if key == "cfg" else key, value)
        if key == "state_dict":
            break
    return Checkpoint(meta.get("config", ""), meta.get("epoch"), meta.get("iter"), meta.get("seed"), versions)


def _pairs(data: bytes) -> Iterator[tuple[str, object]]:
    """Yield each text of a pickle with the plain value after it: pairs of a dictionary stand so."""
    before: object = None
    try:
        for code, argument, _ in pickletools.genops(data):
            if code.name.endswith("PUT") or code.name == "MEMOIZE":
                continue
            value = argument if "UNICODE" in code.name or code.name.startswith(("BININT", "LONG")) else None
            if isinstance(before, str):
                yield before, value
                value = value if value is None or before not in ("cfg", "config") else None
            before = value
    except Exception:  # whatever a pickle that is none makes the module raise
        return


def _length(config: str) -> live.Length:
    values = settings.flat(settings.of_text(config))
    return length_of(values)


def length_of(values: dict[str, Any]) -> live.Length:
    """Return how long a training with these settings is."""
    for loop in ("train_cfg", "runner"):
        epochs, iterations = values.get(f"{loop}.max_epochs"), values.get(f"{loop}.max_iters")
        if type(epochs) is int:
            return live.Length(epochs)
        if type(iterations) is int:
            return live.Length(None, iterations)
    total = values.get("total_epochs")
    return live.Length(total if type(total) is int else None)


def _config(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Return the newest configuration that was written out, and the names of all."""
    stamped = [
        path / "vis_data" / "config.py" for path in sorted(folder.iterdir(), reverse=True) if _stamped(path)
    ]
    beside = sorted(folder.glob("*.py"))
    names = tuple(path.name for path in beside)
    for path in (*stamped, *beside):
        try:
            with path.open("rb") as stream:
                return stream.read(settings.LARGEST).decode("utf-8", "replace"), names
        except OSError:
            continue
    return "", names


def _stamped(path: Path) -> bool:
    return logs.STAMP.match(path.name) is not None and path.is_dir()


def _header(folder: Path, config: str) -> Header:
    text = "".join(_heads(folder))
    seed, gpus, ids = _SEED.search(text), _GPUS.search(text), _GPU_IDS.search(config)
    flat = settings.flat(settings.of_text(config))
    told = next((v for k in ("randomness.seed", "seed") if type(v := flat.get(k)) is int), None)
    number = int(gpus[1]) if gpus else None
    if number is None and ids:
        number = int(ids[1]) if ids[1] else len(ids[2].split(","))
    return Header(
        seed=int(seed[1] or seed[2]) if seed else told,
        gpus=number,
        versions=dict(reversed(_VERSION.findall(text))),
    )


def _heads(folder: Path) -> Iterator[str]:
    """Yield the beginnings of the newest text log and of the newest log of mmcv's in JSON."""
    logs_of = [
        path for path in (*folder.glob("*/*.log"), *folder.glob("*.log")) if logs.STAMP.match(path.name)
    ]
    json_logs = [path for path in folder.glob("*.log.json") if logs.STAMP.match(path.name)]
    for path in (*sorted(logs_of, key=_name)[-1:], *sorted(json_logs, key=_name)[-1:]):
        try:
            with path.open("rb") as stream:
                head = stream.read(_HEAD).decode("utf-8", "replace")
        except OSError:
            continue
        yield _meta(head) if path.suffix == ".json" else head
        yield "\n"


def _name(path: Path) -> str:
    return path.name


def _meta(head: str) -> str:
    """Return the first line of mmcv's JSON log as lines of text."""
    try:
        meta = json.loads(head.partition("\n")[0])
    except (ValueError, RecursionError):
        return ""
    if not isinstance(meta, dict):
        return ""
    seed = f"seed: {meta['seed']}\n" if type(meta.get("seed")) is int else ""
    return f"{seed}{meta.get('env_info', '')}"


def _evaluations(folder: Path) -> Iterator[Evaluation]:
    for path in sorted(folder.glob("eval_*.json")):
        try:
            with path.open("rb") as stream:
                content = json.loads(stream.read(_LARGEST_EVALUATION))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            metric = content.get("metric")
            ap = metric.get("bbox_mAP") if isinstance(metric, dict) else None
            config = content.get("config")
            yield Evaluation(
                path.name,
                config if isinstance(config, str) else "",
                float(ap) if isinstance(ap, int | float) else None,
            )
