"""Checkpoints that a program did not load exactly: what mmcv's and mmengine's loaders printed. Pure.

They load what fits, print the rest, and go on. Standard library only.
"""

from __future__ import annotations

import re
from typing import Iterable

SHOWN = 20  # keys of each kind that are kept by name
# (copy, original): after a training step mmdet's DDQ DETR holds the head's branches in its decoder as well.
TIED = (("decoder.aux_reg_branches.", "bbox_head.aux_reg_branches."),)
_BEGIN = "The model and loaded state dict do not match exactly"
_KINDS = (
    ("missing", re.compile(r"^missing keys in source state_dict: (.+)$")),
    ("unexpected", re.compile(r"^unexpected key in source state_dict: (.+)$")),
    ("mismatched", re.compile(r"^size mismatch for ([^:\s]+): ")),
)


class Inexact:
    """Keys by kind, each once, in the order of the log."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, None]] = {kind: {} for kind, _ in _KINDS}
        self._inside = False

    def read(self, lines: Iterable[str]) -> None:
        """Take in the lines of a log. Only what follows the loader's first line counts: other programs
        print lines of the same form."""
        for line in lines:
            self._inside = self._inside or _BEGIN in line
            if self._inside:
                self._line(line.strip())

    def _line(self, line: str) -> None:
        for kind, pattern in _KINDS:
            match = pattern.match(line)
            if match:
                self.keys[kind].update((key.strip(), None) for key in match.group(1).split(","))

    def report(self) -> dict[str, object]:
        """Return kind -> how many, and the first keys of each; empty if everything was loaded. A copy of tied
        weights is no finding: its original is there as well, or missing."""
        copies = tuple(copy for copy, _ in TIED)
        kept = {kind: [key for key in keys if not key.startswith(copies)] for kind, keys in self.keys.items()}
        findings = {kind: keys for kind, keys in kept.items() if keys}
        counts = {kind: len(keys) for kind, keys in findings.items()}
        return {**counts, "keys": {kind: keys[:SHOWN] for kind, keys in findings.items()}} if counts else {}
