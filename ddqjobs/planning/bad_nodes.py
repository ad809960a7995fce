"""Nodes that eat jobs: where runs of different kinds failed for reasons that a node may have. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ddqjobs.planning.failures import SUSPECT
from ddqjobs.store.history import Ticket

_RUNS = 2  # one run that fails twice on a node may be at fault itself
_ONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a node list does not tell which of them it was


def bad_nodes(tickets: Iterable[Ticket], now: float, window_s: float) -> dict[str, tuple[str, ...]]:
    """Node -> the different runs, at least two, that failed there in the last ``window_s`` seconds."""
    failed: dict[str, dict[str, None]] = {}
    for ticket in tickets:
        end = ticket.finished
        if end is None or end.failure not in SUSPECT or not ticket.node or now - end.at > window_s:
            continue
        if _ONE.fullmatch(ticket.node):
            failed.setdefault(ticket.node, {})[ticket.run] = None
    return {node: tuple(runs) for node, runs in sorted(failed.items()) if len(runs) >= _RUNS}
