"""Leaves absolute paths and names of nodes out of what is made to be shared. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ddqjobs.report.document import Report

NODE, PATH = "a node", "[path]"
_SHORT = (
    3  # a shorter name of a node may be any word of a text: only where it stands alone is it taken for one
)
# What every system has is nobody's secret. A path begins neither inside a word nor as a part of an address.
_KEPT = r"(?:dev/null|bin/\w+|usr/bin/\w+)(?![\w/.-])"
# Colours, as they are or spelled out; and what a text of Python spells out: neither is a part of a word.
_CONTROL = re.compile(r"(?:\x1b|\\x1b|\\u001b|\\033|\\e)\[[0-?]*[ -/]*[@-~]")
_SPELLED = r"(?<=\\[abefnrtv0])|(?<=\\x[\da-fA-F]{2})|(?<=\\u[\da-fA-F]{4})"
_PATH = re.compile(
    rf"(?:(?<=file://)|(?<=[\s=]-[IL])|{_SPELLED}|(?<![\w/.)}}\]~$]))(?:(?<!:)/+|/(?!/))"
    rf"(?!{_KEPT})[\w.~+@%-]+(?:/[\w.~+@%=-]*)*"
)
_LIST = re.compile(r"((?:[^,\[\]]|\[[^\]]*\])+)")  # a comma in brackets parts no names
_RANGE = re.compile(r"(\d+)-(\d+)")
_LONGEST_RANGE = 100_000
_FILE = re.compile(r"[\w+=-][\w.+=-]*\.[A-Za-z]\w{0,5}")

Share = Callable[[str], str]


def sharing(nodes: Iterable[str], folders: Iterable[str] = (), terms: Iterable[str] = ()) -> Share:
    """Return what leaves paths, and the names of these nodes with and without their domain, out of a text.
    ``nodes`` may be lists as a scheduler writes them. ``folders`` are known to be paths, also where their
    names have spaces. ``terms`` are never taken for nodes.

    >>> sharing(["gpu7.example"])("on gpu7: /home/j/x/train.py, see https://a.example/b, 3/12")
    'on a node: [path]/train.py, see https://a.example/b, 3/12'
    """
    full_names = {name for node in nodes for name in (node, *node_names(node))}
    names = {name for node in full_names for name in (node, _host(node))} - {"", *terms}
    long = sorted((name for name in names if len(name) >= _SHORT), key=len, reverse=True)
    stems = {name.rstrip("0123456789") for name in names if name[-1].isdecimal() and not _is_address(name)}
    lists = [rf"{re.escape(stem)}\[[\d,-]+\]" for stem in sorted(stems - {""}, key=len, reverse=True)]
    any_of = "|".join([*lists, *map(re.escape, long)])
    pattern = re.compile(rf"(?:{_SPELLED}|(?<![\w.-]))(?:{any_of})(?![\w-])") if any_of else None
    known = sorted((folder for folder in folders if folder.count("/") > 1), key=len, reverse=True)

    def share(text: str) -> str:
        if text in names:
            return NODE
        text = _CONTROL.sub("", text)
        for folder in known:
            text = text.replace(folder, "/-/-")
        text = _PATH.sub(_shortened, text) if "/" in text else text
        return pattern.sub(NODE, text) if pattern is not None else text

    return share


def node_names(text: str) -> Iterator[str]:
    """Yield the nodes of a list as a scheduler writes it.

    >>> list(node_names("gpu[07-08,11].x,login"))
    ['gpu07.x', 'gpu08.x', 'gpu11.x', 'login']
    """
    for part in _LIST.findall(text):
        before, bracket, rest = part.partition("[")
        inside, _, after = rest.partition("]")
        if not bracket:
            yield part
            continue
        for middle in (number for span in inside.split(",") for number in _span(span)):
            yield from (f"{before}{middle}{tail}" for tail in (node_names(after) if after else ("",)))


def _span(text: str) -> Iterable[str]:
    ends = _RANGE.fullmatch(text)
    if ends is None:
        return [text]
    first, last = int(ends[1]), int(ends[2])
    return (str(n).zfill(len(ends[1])) for n in range(first, min(last, first + _LONGEST_RANGE) + 1))


def _host(node: str) -> str:
    """Return a node's name without its domain; an address has none."""
    return node if _is_address(node) else node.partition(".")[0]


def _is_address(node: str) -> bool:
    try:
        ipaddress.ip_address(node)
    except ValueError:
        return False
    return True


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
