"""The weights that a training begins with, as its detector finds them in torch's cache.

torch.hub looks for a file of the URL's name there, and takes what it finds without a look at the digest that
the name ends with: a half download, or another file under that name, decides a result unseen.
"""

from __future__ import annotations

import json
import os
import re
import time
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence
from urllib.parse import urlparse

from .. import files
from .finding import WARNING, Finding, join, walk

_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")  # as torch.hub writes it
_KEYS = ("checkpoint", "pretrained", "load_from")
_LISTS = {
    "torchvision": "get_torchvision_models",
    "open-mmlab": "get_external_models",
    "openmmlab": "get_external_models",
    "mmcls": "get_mmcls_models",
}
Addresses = Callable[[str], Mapping[str, str]]  # zoo -> name -> URL


def check(
    cfg: Mapping[str, Any], declared: Sequence[str] | None = None, addresses: Addresses | None = None
) -> Iterator[Finding]:
    """Yield the weights in torch's cache that are not what their names say; with ``declared``, the files of
    the cache that are brought before a run, also those that the run itself would download."""
    cache = _home() / "hub" / "checkpoints"
    for here, text in _named(cfg):
        url = _url(text, addresses or _addresses)
        name = Path(urlparse(url).path).name
        if not name:
            continue
        there, said = (cache / name).is_file(), digits_in(name)
        if said and there:
            digest = files.sha256(cache / name)
            if not digest.startswith(said):
                reason = f"{cache / name} is not what its name says, its SHA-256 begins with {digest[:8]}"
                yield Finding("data", here, f"{here}: {reason}")
        elif not there and declared is not None and name not in declared:
            yield Finding("data", here, _download(here, text, url), level=WARNING)


def _download(here: str, text: str, url: str) -> str:
    source = "" if text == url else f" from {url}"
    return (
        f"{here}: {text} is neither in torch's cache nor under `weights`, so the run would download "
        f"it{source} when it starts; declare `weights: {{NAME: {{url: "
        f'"{url}"}}}}`, and `ddqjobs data weights` brings it'
    )


def _home() -> Path:
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser()


def _named(cfg: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys and names of weights that a training begins with."""
    sections = [("", {"load_from": cfg.get("load_from")}), *walk(cfg.get("model"), "model")]
    for path, value in sections:
        for key in _KEYS:
            if isinstance(value.get(key), str):
                yield join(path, key), value[key]


def digits_in(name: str) -> str:
    """Return the first digits of a SHA-256 that a file's name ends with; empty for none, and for a date.

    >>> [digits_in(name) for name in ("r50-0676ba61.pth", "r50-20210804.pth", "r50-20219904.pth")]
    ['0676ba61', '', '20219904']
    """
    said = _IN_NAME.search(name)
    return said[1] if said and not _is_date(said[1]) else ""


def _is_date(word: str) -> bool:
    try:
        return len(word) == 8 and time.strptime(word, "%Y%m%d").tm_year in range(2000, 2100)
    except ValueError:
        return False


def _url(text: str, addresses: Addresses) -> str:
    """Return what a detector downloads for a text where torch's cache has it not; empty for a file."""
    zoo, separator, name = text.partition("://")
    return text if zoo in ("http", "https") else addresses(zoo).get(name, "") if separator else ""


def _addresses(zoo: str) -> Mapping[str, str]:
    for module in ("mmengine.runner.checkpoint", "mmcv.runner.checkpoint"):
        try:
            addresses = getattr(import_module(module), _LISTS[zoo])()
        except (ImportError, AttributeError, KeyError, OSError):
            continue
        return addresses if isinstance(addresses, dict) else {}
    return _without_torchvision() if zoo == "torchvision" else {}


def _without_torchvision() -> Mapping[str, str]:
    """Return the list that mmengine brings along, for an environment that only looks at configurations."""
    try:
        package = import_module("mmengine").__path__[0]
        addresses = json.loads(Path(package, "hub", "torchvision_0.12.json").read_text(encoding="utf-8"))
    except (ImportError, AttributeError, OSError, ValueError):
        return {}
    return addresses if isinstance(addresses, dict) else {}
