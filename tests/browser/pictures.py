"""``pictures.py FOLDER [MINI.html]``: a page at three widths, light, dark and printed, as small PNG files.

It is the page of a matrix, tests/support/matrix.py's, and where two codes differ, tests/support/shapes.py's:
nothing is trained for them. With the page of the miniature (``ddqjobs report mini --recompute --gallery 4
-o MINI.html``, after ``make demo``) its detections and kinds of error too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ddqjobs.base import process
from ddqjobs.spec.metric import METRICS
from tests.browser.test_page import CACHE, SOURCE, NotThere, prepare
from tests.support import matrix, paper, shapes

# Name of a look -> rows of pixels from the top that the picture shows.
SHOWN = {
    "1280-light": 2900,
    "1280-dark": 1300,
    "768-light": 1700,
    "768-dark": 1700,
    "360-light": 5200,
    "360-dark": 5200,
    "print": 1123,  # a sheet of A4
}


DIFFER = {"Detections": "report-differ"}
SECTIONS = {"Detections": "report-gallery", "Detection errors": "report-errors"}


def main(folder: str, mini: str = "") -> None:
    """Make the page, look, crop, and keep few colours: flat areas and text need no more."""
    try:
        browser = prepare()
    except NotThere as error:
        raise SystemExit(str(error)) from error
    if mini:
        _sections(Path(folder), mini, browser, SECTIONS)
    with tempfile.TemporaryDirectory() as temporary:
        shaped = shapes.write(paper.make(Path(temporary) / "shapes", models=1, seeds=1, rows=60))
        page = Path(temporary) / "shapes.html"
        page.write_text(shaped.report_page(shaped.report("paper", recompute=True), gallery=4))
        _sections(Path(folder), str(page), browser, DIFFER)
        project = matrix.make(Path(temporary) / "project")
        page = Path(temporary) / "page.html"
        page.write_text(
            project.report_page(project.report("matrix", metrics=list(METRICS)), price=2.5, currency="EUR")
        )
        env = {**os.environ, "NODE_PATH": str(CACHE / "node_modules")}
        argv = ["node", str(SOURCE / "look.js"), str(page), browser, temporary, "pictures"]
        done = process.run(argv, timeout=400, env=env)
        if done.code != 0:
            raise SystemExit(done.stderr)
        for name, height in SHOWN.items():
            picture = Image.open(Path(temporary) / f"{name}.png").convert("RGB")
            picture = picture.crop((0, 0, picture.width, min(height, picture.height))).quantize(64)
            picture.save(Path(folder) / f"report-{name}.png", optimize=True)


def _sections(folder: Path, page: str, browser: str, sections: dict[str, str]) -> None:
    """Make pictures of the sections of a page that show detections."""
    env = {**os.environ, "NODE_PATH": str(CACHE / "node_modules")}
    for title, name in sections.items():
        with tempfile.TemporaryDirectory() as temporary:
            argv = ["node", str(SOURCE / "look.js"), page, browser, temporary, f"={title}"]
            done = process.run(argv, timeout=100, env=env)
            if done.code != 0:
                raise SystemExit(done.stderr)
            picture = Image.open(Path(temporary) / "section.png").convert("RGB")
            picture.quantize(128).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
