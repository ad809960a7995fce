"""The configuration that an attempt ran with, as plain data that two attempts can be compared by.

What differs between two attempts of one run by its nature is taken out: the folders of the attempt, what it
was resumed from, and how its processes were started. Secrets are replaced by marks, too short to guess them
by, which still tell two of them apart. Standard library only.

Configurations of runs whose products were made lie once more in one folder for all experiments of a project,
named by the digest of the run and by their own: two of one digest differ in what no digest covers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Iterator, Mapping

NAME = "resolved.json"
ALL = ".resolved"  # below the folder that has the results of all experiments
_OWN = ("work_dir", "resume", "resume_from", "load_from", "launcher", "auto_resume", "gpu_ids")
_FOLDERS = ("DDQJOBS_WORK_DIR", "DDQJOBS_ATTEMPT_DIR", "DDQJOBS_RUN_DIR", "DDQJOBS_CODE")
_FORMAT = "1:"  # of what is normalised: configurations of different ones are not compared
_MOST = 5  # differences that are named
_SECRET = re.compile(
    r"(?:token|secret|passw(?:or)?d|api_?key|authorization|credential|cookie|bearer)s?(?![a-z])", re.I
)
_KEY = re.compile(r"(?:^|[_.-])key(?:[_.-]|$)", re.I)  # numbers below one are sizes: key_dim
_VARIABLE = re.compile(rf"{_SECRET.pattern}|{_KEY.pattern}|credential|(?:^|_)(?:pass|pat|auth)(?:_|$)", re.I)
# In a URL, behind its scheme; or by the prefix that a service gives its tokens.
_LOGIN = re.compile(
    r"(?i)(?<=://)[^\s/@'\"]{1,400}(?=@)"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-|eyJ)[\w-]{16,}(?:\.[\w-]+)*"
)
_MARK = re.compile(r"secret:[0-9a-f]{4}")
_SHORTEST = 6  # characters of a variable's value that is searched for


def plain(cfg: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """Return a configuration as JSON has it; paths of the attempt and of its inputs, and secrets among the
    variables, become their names, other secrets marks."""
    names = [*_FOLDERS, *sorted(name for name in variables if name.startswith("DDQJOBS_INPUT_"))]
    known = {variables[name]: f"${name}" for name in names if variables.get(name)}
    marked = variables.get("DDQJOBS_SECRETS", "").split()
    for name, value in variables.items():
        if (name in marked or _VARIABLE.search(name)) and len(value) >= _SHORTEST and value[0] != "/":
            known.setdefault(value, f"${name}")
    texts = sorted(known.items(), key=lambda item: -len(item[0]))
    return {str(k): _plain(v, texts, str(k)) for k, v in cfg.items() if k not in _OWN}


def _plain(value: Any, texts: list[tuple[str, str]], path: str) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v, texts, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, texts, path) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(_plain(v, texts, path)) for v in value)
    if isinstance(value, str):
        for text, name in texts:
            value = value.replace(text, name)
    if value is None or isinstance(value, (bool, int, float, str)):
        return _marked(value, path)
    named = getattr(value, "__qualname__", None)  # a class or a function
    return f"{value.__module__}.{named}" if named else type(value).__qualname__


def _sounds(path: str) -> bool:
    return _SECRET.search(path) is not None or _KEY.search(path) is not None


def _marked(value: Any, path: str) -> Any:
    """Return a value with marks for its secrets: all of a text whose path sounds secret, and of a number but
    below a bare ``key``, else what looks like one. Marks stay as they are."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _mark(json.dumps(value)) if _SECRET.search(path) else value
    if not isinstance(value, str):
        return value
    return _mark(value) if value and _sounds(path) else _LOGIN.sub(lambda match: _mark(match[0]), value)


def _mark(text: str) -> str:
    return text if _MARK.fullmatch(text) else f"secret:{hashlib.sha256(text.encode()).hexdigest()[:4]}"


def compare(attempts: Path, digest: str) -> tuple[str, ...]:
    """Return in which places the attempts of a run differ that have this digest, the first of them; empty if
    they do not, or if it was not recorded."""
    paths = [path for path in sorted(attempts.glob(f"*/{NAME}")) if _digest(path.parent) == digest]
    values = [value for value in map(read, paths) if value is not None]
    found_places = (first_differences(values[0], value) for value in values[1:])
    return next((places for places in found_places if places), ())


def keep(folder: Path, digest: str, path: Path) -> str:
    """Put an attempt's configuration among those of its digest; return its own digest, empty without one.

    A folder that cannot be written to is no reason to lose a product."""
    value = read(path)
    if value is None:
        return ""
    own = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
    place = folder / name(digest, own)
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        os.link(str(path), str(place))
    return own


def name(digest: str, own: str) -> str:
    """Return the name under which a configuration is kept for the digest of its run."""
    return f"{of_digest(digest)}{own}.json"


def of_digest(digest: str) -> str:
    """Return what the names of all configurations of a digest begin with."""
    return f"{hashlib.sha256((_FORMAT + digest).encode()).hexdigest()[:24]}-"


def first_differences(one: Any, other: Any) -> tuple[str, ...]:
    """Return the first places in which two plain configurations differ."""
    places = list(differences(one, other))
    more = [f"and {len(places) - _MOST} more"] if len(places) > _MOST else []
    return (*places[:_MOST], *more)


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Yield ``path: value against value`` for each place in which two plain configurations differ; of one
    that sounds secret the path alone, for reports are shared."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            here = f"{path}.{key}" if path else key
            if key not in one or key not in other:
                yield _place(here, one.get(key, "nothing"), other.get(key, "nothing"))
            else:
                yield from differences(one[key], other[key], here)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (a, b) in enumerate(zip(one, other)):
            yield from differences(a, b, f"{path}.{place}")
    # As text: 1 is neither 1.0 nor true, and NaN is NaN.
    elif json.dumps(_marked(one, path), sort_keys=True) != json.dumps(_marked(other, path), sort_keys=True):
        yield _place(path, one, other)


def _place(path: str, one: Any, other: Any) -> str:
    return path if _sounds(path) else f"{path}: {_short(one)} against {_short(other)}"


def _short(value: Any) -> str:
    told = _told(value)
    text = told if isinstance(told, str) else json.dumps(told)
    return text if len(text) <= 60 else text[:57] + "..."


def _told(value: Any) -> Any:
    """Return a value without what sounds secret in it, also of a configuration that has no marks yet."""
    if isinstance(value, dict):
        return {key: "..." if _sounds(key) else _told(item) for key, item in value.items()}
    return [_told(item) for item in value] if isinstance(value, list) else _marked(value, "")


def read(path: Path) -> Any:
    """Return what a JSON file has; None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _digest(attempt: Path) -> str:
    run = read(attempt / "run.json")
    return str(run.get("digest", "")) if isinstance(run, dict) else ""
