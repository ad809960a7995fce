"""``pictures.py PAGE.html FOLDER``: the page at three widths, light and dark, as small PNG files."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from ddqjobs.base import process

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.browser.test_page import BROWSERS, CACHE, SOURCE

# Width, scheme -> rows of pixels from the top that the picture shows.
SHOWN = {
    (1280, "light"): 1660,
    (1280, "dark"): 1000,
    (768, "light"): 1000,
    (768, "dark"): 1000,
    (360, "light"): 900,
    (360, "dark"): 900,
}


def main(page: str, folder: str) -> None:
    """Looks, crops, and keeps few colours: flat areas and text need no more."""
    browser = next(path for name in BROWSERS if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as temporary:
        env = {**os.environ, "NODE_PATH": str(CACHE / "node_modules")}
        words = ["node", str(SOURCE / "look.js"), page, browser, temporary]
        done = process.run(words, timeout=400, env=env)
        if done.code != 0:
            raise SystemExit(done.stderr)
        for (width, scheme), height in SHOWN.items():
            picture = Image.open(Path(temporary) / f"{width}-{scheme}.png").convert("RGB")
            picture = picture.crop((0, 0, width, min(height, picture.height))).quantize(48)
            picture.save(Path(folder) / f"report-{width}-{scheme}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
