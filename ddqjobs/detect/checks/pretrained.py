"""The weights that a training begins with, as its detector finds them in torch's cache.

torch.hub looks for a file of the URL's name there, and takes what it finds without a look at the digest that
the name ends with: a half download, or another file under that name, decides a result unseen.
"""

from __future__ import annotations

import os
import re
import time
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping
from urllib.parse import urlparse

from .. import files
from .finding import Finding, join, walk

_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")  # as torch.hub writes it
_KEYS = ("checkpoint", "pretrained")
_LISTS = {
    "torchvision": "get_torchvision_models",
    "open-mmlab": "get_external_models",
    "openmmlab": "get_external_models",
}
Addresses = Callable[[str], Mapping[str, str]]  # zoo -> name -> URL


def check(model: Any, addresses: Addresses | None = None) -> Iterator[Finding]:
    """Yield the weights in torch's cache that are not what their names say."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    cache = Path(home).expanduser() / "hub" / "checkpoints"
    for path, value in walk(model, "model"):
        for key in _KEYS:
            name = _file(value.get(key), addresses or _addresses)
            said = digits_in(name)
            if said and (cache / name).is_file():
                digest = files.sha256(cache / name)
                if not digest.startswith(said):
                    here = join(path, key)
                    text = f"{cache / name} is not what its name says, its SHA-256 begins with {digest[:8]}"
                    yield Finding("data", here, f"{here}: {text}")


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


def _file(text: Any, addresses: Addresses) -> str:
    """Return the name of the file that a detector loads for a text; empty for none in the cache."""
    if not isinstance(text, str) or "://" not in text:
        return ""
    zoo, _, name = text.partition("://")
    url = text if zoo in ("http", "https") else addresses(zoo).get(name, "")
    return Path(urlparse(url).path).name


def _addresses(zoo: str) -> Mapping[str, str]:
    for module in ("mmengine.runner.checkpoint", "mmcv.runner.checkpoint"):
        try:
            addresses = getattr(import_module(module), _LISTS[zoo])()
        except (ImportError, AttributeError, KeyError, OSError):
            continue
        return addresses if isinstance(addresses, dict) else {}
    return {}
