"""The configuration that an attempt ran with, as plain data that two attempts can be compared by.

What differs between two attempts of one run by its nature is taken out: the folders of the attempt, what it
was resumed from, and how its processes were started. Standard library only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, Mapping

NAME = "resolved.json"
_OWN = ("work_dir", "resume", "resume_from", "load_from", "launcher", "auto_resume", "gpu_ids")
_FOLDERS = ("DDQJOBS_WORK_DIR", "DDQJOBS_ATTEMPT_DIR", "DDQJOBS_RUN_DIR", "DDQJOBS_CODE")
_MOST = 5  # differences that are named


def plain(cfg: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """Return a configuration as JSON has it; paths of the attempt and of its inputs become their names."""
    names = [*_FOLDERS, *sorted(name for name in variables if name.startswith("DDQJOBS_INPUT_"))]
    known = {variables[name]: f"${name}" for name in names if variables.get(name)}
    folders = sorted(known.items(), key=lambda item: -len(item[0]))
    return {str(k): _plain(v, folders) for k, v in cfg.items() if k not in _OWN}


def _plain(value: Any, folders: list[tuple[str, str]]) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v, folders) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, folders) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(_plain(v, folders)) for v in value)
    if isinstance(value, str):
        for folder, name in folders:
            value = value.replace(folder, name)
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    named = getattr(value, "__qualname__", None)  # a class or a function
    return f"{value.__module__}.{named}" if named else type(value).__qualname__


def compare(attempts: Path, digest: str) -> tuple[str, ...]:
    """Return in which places the attempts of a run differ that have this digest, the first of them; empty if
    they do not, or if it was not recorded."""
    found = [path for path in sorted(attempts.glob(f"*/{NAME}")) if _digest(path.parent) == digest]
    values = [value for value in map(_read, found) if value is not None]
    for value in values[1:]:
        places = list(differences(values[0], value))
        if places:
            more = [f"and {len(places) - _MOST} more"] if len(places) > _MOST else []
            return (*places[:_MOST], *more)
    return ()


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Yield ``path: value against value`` for each place in which two plain configurations differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            here = f"{path}.{key}" if path else key
            if key not in one or key not in other:
                yield f"{here}: {_short(one.get(key, 'nothing'))} against {_short(other.get(key, 'nothing'))}"
            else:
                yield from differences(one[key], other[key], here)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (a, b) in enumerate(zip(one, other)):
            yield from differences(a, b, f"{path}.{place}")
    elif one != other and not (one != one and other != other):  # NaN
        yield f"{path}: {_short(one)} against {_short(other)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _digest(attempt: Path) -> str:
    run = _read(attempt / "run.json")
    return str(run.get("digest", "")) if isinstance(run, dict) else ""
