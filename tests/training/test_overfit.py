"""The plan's models, made small, learn: trained on eight images of the generated data set, they find what is
in them. Three of the seven, one of each kind; all with DDQJOBS_TEST_ALL_MODELS=1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmdet")

from tests.support import shrunken

pytestmark = pytest.mark.filterwarnings("ignore")
# The 12e and the 36e models differ in schedule and augmentation, which are the test's own.
ONE_OF_EACH_KIND = ("ddq-fcn-12e", "ddq-rcnn-12e", "ddq-detr-4scale")
CHOSEN = tuple(shrunken.MODELS) if os.environ.get("DDQJOBS_TEST_ALL_MODELS") else ONE_OF_EACH_KIND


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shrunken.dataset(tmp_path_factory.mktemp("overfit") / "data")


@pytest.mark.parametrize("name", CHOSEN)
def test_a_small_model_learns_eight_images_by_heart(name: str, images: Path, tmp_path: Path) -> None:
    ap, _ = shrunken.overfit(name, images, tmp_path, epochs=100, enough=0.5)
    assert ap > 0.5
