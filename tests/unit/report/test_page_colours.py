"""The page's curves are told apart by people who see colours differently."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ddqjobs.report.page

Array = Any  # numpy.ndarray
# Linear RGB as seen without one kind of cone: Machado, Oliveira, Fernandes, TVCG 15 (2009), severity 1.
SIGHT = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])  # D65


def linear(colour: str) -> Array:
    """``#rrggbb`` in sRGB to linear RGB in 0..1 (IEC 61966-2-1)."""
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: Array) -> Array:
    """Linear RGB to CIE L*a*b* (1976)."""
    t = _XYZ @ np.clip(rgb, 0, 1) / _WHITE
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def palettes() -> list[list[str]]:
    """The colours of the series: light, dark."""
    text = (Path(ddqjobs.report.page.__file__).parent / "page.css").read_text()
    colours = re.findall(r"--series-\d: (#[0-9a-f]{6})", text)
    return [colours[:4], colours[4:8]]


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_two_series_differ_clearly_for_every_sight(sight: str, theme: str) -> None:
    colours = palettes()[theme == "dark"]
    coordinates = {colour: lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in colours}
    assert len(coordinates) == 4
    near = min(
        float(np.linalg.norm(coordinates[a] - coordinates[b]))
        for a, b in itertools.combinations(coordinates, 2)
    )
    assert near > 10  # CIE76; 2.3 is just noticeable
