"""The end of a measurement: failures on stderr, a line each, and the exit code. Standard library only."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def one_line(text: str) -> str:
    """A text in one line; of a long one its beginning, and its end, where a log says what went wrong."""
    line = " ".join(text.split())
    return line if len(line) <= 400 else f"{line[:80]} ... {line[-300:]}"


def end(problems: Sequence[tuple[str, str]]) -> int:
    """Say every problem (part, reason) on stderr, one line each. The exit code: 1 if there is any."""
    for part, why in problems:
        print(f"failed: {part}: {one_line(why)}", file=sys.stderr, flush=True)
    return 1 if problems else 0


def scalars(work: Path) -> list[dict[str, Any]]:
    """The logged iterations in a work folder that was fresh. Raises ValueError unless it has one log."""
    logs = sorted(work.glob("*/vis_data/scalars.json"))
    if len(logs) != 1:
        raise ValueError(f"{work}: {len(logs)} logs of a training, where one should be")
    return [json.loads(line) for line in logs[0].read_text().splitlines()]
