"""Logs of real trainings, each in its library's own way of counting, are read right.

tests/recorded/logs/record.py made them: a loss is its iteration, an AP the thousandth of its iteration.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddqjobs.detect.job import curves, logs
from tests.support import paths

CORPUS = paths.RECORDED / "logs" / "corpus"
EXPECTED: dict[str, dict[str, list[list[float]]]] = json.loads((CORPUS / "expected.json").read_text())


def figures(work_dir: Path) -> dict[str, list[list[float]]]:
    """The places of a log's rows: iterations; epoch, iteration and AP points of validations; AP of tests."""
    log = logs.read(work_dir)
    assert log.skipped == 0
    thin = curves.thin(log)
    terms = thin["terms"].get("loss", [])
    val = [v for v in log.val if "bbox_mAP" in v.values]
    return {
        "train": [[x, y] for x, y in terms],
        "val": [[v.epoch, v.step, round(1000 * v.values["bbox_mAP"], 6)] for v in val],
        "test": [[round(1000 * t.values["bbox_mAP"], 6)] for t in log.test],
    }


def test_the_corpus_is_whole() -> None:
    assert {folder.name for folder in CORPUS.iterdir() if folder.is_dir()} == EXPECTED.keys()
    assert len(EXPECTED) >= 30


@pytest.mark.parametrize("shape", sorted(EXPECTED))
def test_a_recorded_log_is_read_right(shape: str) -> None:
    assert figures(CORPUS / shape) == EXPECTED[shape]
