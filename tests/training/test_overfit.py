"""The plan's models, made small, learn: trained on eight images of the generated data set, they find what is
in them. Three of the seven, one of each kind; all with DDQJOBS_TEST_ALL_MODELS=1. On the CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmdet")

from tests.support import processor, shrunken
from tests.support.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")
# The 12e and the 36e models differ in schedule and augmentation, which are the test's own.
ONE_OF_EACH_KIND = ("ddq-fcn-12e", "ddq-rcnn-12e", "ddq-detr-4scale")
CHOSEN = tuple(shrunken.MODELS) if os.environ.get("DDQJOBS_TEST_ALL_MODELS") else ONE_OF_EACH_KIND


@pytest.mark.bits
@pytest.mark.parametrize("name", CHOSEN)
def test_a_small_model_learns_eight_images_by_heart(name: str) -> None:
    argv = [sys.executable, "-W", "ignore", "-m", "tests.support.shrunken", "100", "0.5", name]
    variables = processor.variables(processor.ON_THE_CPU)
    done = subprocess.run(argv, cwd=ROOT, env=variables, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    found = re.search(rf"^OVERFIT {name} AP ([0-9.]+) after", done.stdout, re.MULTILINE)
    assert found, done.stdout
    assert float(found.group(1)) > 0.5
