"""Leaves absolute paths and names of nodes out of what is made to be shared. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ddqjobs.report.document import Report

NODE, PATH = "a node", "[path]"
_SHORT = (
    3  # a shorter name of a node may be any word of a text: only where it stands alone is it taken for one
)
# What every system has is nobody's secret. A path begins neither inside a word nor as a part of an address.
_KEPT = r"(?:dev/null|bin/\w+|usr/bin/\w+)(?![\w/.-])"
_PATH = re.compile(
    rf"(?:(?<=file://)|(?<=[\s=]-[IL])|(?<![\w/.)}}\]~$])(?!//))/(?!{_KEPT})[\w.~+@%-]+(?:/[\w.~+@%=-]*)*"
)
_FILE = re.compile(r"[\w+=-][\w.+=-]*\.[A-Za-z]\w{0,5}")

Share = Callable[[str], str]


def sharing(nodes: Iterable[str], folders: Iterable[str] = ()) -> Share:
    """Return what leaves paths, and the names of these nodes with and without their domain, out of a text.
    ``folders`` are known to be paths, also where their names have spaces.

    >>> sharing(["gpu7.example"])("on gpu7: /home/j/x/train.py, see https://a.example/b, 3/12")
    'on a node: [path]/train.py, see https://a.example/b, 3/12'
    """
    names = {name for node in nodes if node for name in (node, node.partition(".")[0])}
    long = sorted((name for name in names if len(name) >= _SHORT), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, long))})(?![\w-])") if long else None

    known = sorted((folder for folder in folders if folder.count("/") > 1), key=len, reverse=True)

    def share(text: str) -> str:
        if text in names:
            return NODE
        for folder in known:
            text = text.replace(folder, "/-/-")
        text = _PATH.sub(_shortened, text) if "/" in text else text
        return pattern.sub(NODE, text) if pattern is not None else text

    return share


def _shortened(match: re.Match[str]) -> str:
    """Return the name of a file in a folder of a folder, which says what it is and not whose."""
    parts = match[0].rstrip("/").split("/")[1:]
    return f"{PATH}/{parts[-1]}" if len(parts) > 2 and _FILE.fullmatch(parts[-1]) else PATH


def shared(report: Report, share: Share) -> Report:
    """Return a report without paths and names of nodes."""
    return msgspec.convert(_through(msgspec.to_builtins(report), share), Report)


def _through(value: Any, share: Share) -> Any:
    if isinstance(value, str):
        return share(value)
    if isinstance(value, dict):
        return {key: _through(inner, share) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_through(inner, share) for inner in value]
    return value
