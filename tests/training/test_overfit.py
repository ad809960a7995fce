"""The plan's models, made small, learn: trained on eight images of the generated data set, they find what is
in them. On the CPU."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmdet")

from tests.support import processor, shrunken
from tests.support.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.bits
@pytest.mark.parametrize("name", shrunken.one_of_each_kind(shrunken.MODELS))
def test_a_small_model_learns_eight_images_by_heart(name: str) -> None:
    argv = [sys.executable, "-W", "ignore", "-m", "tests.support.shrunken", "100", "0.5", name]
    variables = processor.variables(processor.ON_THE_CPU)
    done = subprocess.run(argv, cwd=ROOT, env=variables, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    match = re.search(rf"^OVERFIT {name} AP ([0-9.]+) after", done.stdout, re.MULTILINE)
    assert match, done.stdout
    assert float(match.group(1)) > 0.5
