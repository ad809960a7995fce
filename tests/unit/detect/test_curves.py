"""Curves are thinned without losing an extreme, and what is not finite stays visible."""

from __future__ import annotations

import json
import math

import pytest

from ddqjobs.detect.job import curves, logs
from tests.support.paper import TERMS, a_log


def train(values: list[float], **more: float) -> logs.Log:
    rows = [logs.Train(1, 0, i + 1, {"loss": value, **more}) for i, value in enumerate(values)]
    return logs.Log(rows, [], [], 0, [])


def test_every_extreme_of_every_stretch_is_kept() -> None:
    log = a_log(90_000, 1, layers=1)
    values = [row.values["loss"] for row in log.train]
    log.train[54_321].values["loss"] = 99.0
    log.train[54_322].values["loss"] = -1.0
    thin = curves.thin(log)["terms"]["loss"]
    assert len(thin) <= 2 * curves.BUCKETS + 2
    assert [54_322, 99.0] in thin
    assert [54_323, -1.0] in thin
    assert thin[0][0] == 1
    assert thin[-1] == [90_000, pytest.approx(values[-1], rel=1e-4)]
    size = 90_000 // curves.BUCKETS
    for start in range(0, 90_000, size):
        stretch = values[start : start + size]
        if start <= 54_321 < start + size:
            continue
        drawn = [y for x, y in thin if start < x <= start + size]
        assert max(drawn) == pytest.approx(max(stretch), rel=1e-4)
        assert min(drawn) == pytest.approx(min(stretch), rel=1e-4)


def test_a_short_log_is_kept_whole() -> None:
    thin = curves.thin(train([3.0, 1.0, 2.0]))
    assert thin["terms"]["loss"] == [[1, 3.0], [2, 1.0], [3, 2.0]]
    assert (thin["rows"], thin["first"], thin["last"]) == (3, 1, 3)


def test_one_nan_among_ten_thousand_is_seen() -> None:
    values = [1.0] * 10_000
    values[7_777] = math.nan
    thin = curves.thin(train(values))
    assert [7_778, None] in thin["terms"]["loss"]
    assert thin["means"]["loss"].count(None) == 1
    json.dumps(thin, allow_nan=False)


def test_a_loss_of_each_layer_is_one_sum() -> None:
    terms = curves.thin(a_log(50, 1, layers=3))["terms"]
    assert next(iter(terms)) == "loss"
    assert set(terms) == {"loss", "lr", "grad_norm", *TERMS}
    log = train([6.0], **{"loss_cls": 1.0, "d0.loss_cls": 2.0, "0_aux_loss_cls": 0.5, "1_aux_loss_cls": 0.25})
    terms = curves.thin(log)["terms"]
    assert terms["loss_cls"] == [[1, 3.0]]
    assert terms["aux_loss_cls"] == [[1, 0.75]]


def test_mmcv_s_count_within_the_epoch_becomes_one_over_all() -> None:
    rows = [logs.Train(epoch, i, 0, {"loss": 1.0}) for epoch in (1, 2) for i in (50, 100)]
    thin = curves.thin(logs.Log(rows, [], [], 0, []))
    assert [x for x, _ in thin["terms"]["loss"]] == [50, 100, 150, 200]


def test_an_empty_log_is_an_empty_curve() -> None:
    assert curves.thin(logs.Log([], [], [], 3, [])) == {
        **{"rows": 0, "first": 0, "last": 0, "terms": {}, "means": {}, "val": {}, "lost": 3}
    }


def test_validations_keep_their_epochs() -> None:
    log = logs.Log([], [logs.Val(1, {"bbox_mAP": 0.5}), logs.Val(2, {"bbox_mAP": math.nan})], [], 0, [])
    assert curves.thin(log)["val"] == {"bbox_mAP": [[1, 0.5], [2, None]]}
