#!/usr/bin/env python3
"""Run the commands of the documentation, one page after the other, in a project made as the pages say.

    .venv/bin/python tools/run_docs.py HOME [PAGE]...

HOME is the home directory of the walk, a folder outside of the checkout; what is done there is not done
again. The site local takes the environments of this checkout (`make environments`), or those of
$RUN_DOCS_ENVIRONMENTS. Every line of every block is run, unless a reason why not is written here. Exit 1 if
one ends otherwise than the page says.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ddqjobs.base import process  # noqa: E402
from tests.support import markdown  # noqa: E402

_LIMIT_S = 3600.0
_CLUSTERS = r"--site (?:mycluster|mydonau|bscc|slurm)"
_BIG = r"(?:ddq|ddq-mask|ddq-cpu|dino-4scale|dino-fork)"
_STARTS = r"ddqjobs (?:submit|shell|advance)"
_ASKS = rf"{_STARTS}|ddqjobs (?:status|check|hold|release|cancel|retry|env build)"
# Why a line is not run: the first reason whose pattern is found in `PAGE: LINE`.
REASONS = {
    r"^docs/reference/terminal": "shows recorded output, which tests/local/test_recordings.py compares",
    r"^CONTRIBUTING|^docs/how-to/(?:releasing|adding-a-scheduler)": "for developers, in a checkout",
    r"^docs/measurements/": "says how something was measured",
    r"^README.zh-CN|zh-CN.md:": "is the English page's, line by line; tests/unit/test_docs.py compares them",
    r": (?:pip|git|docker|python3? -m venv|~/ddqjobs-venv|source)\b": "installs, as tests/unit/test_wheel.py",
    r": (?:make|kill|chgrp|chmod|mv|echo)\b": "is the system's, and needs root, a group or another's files",
    r"python -m ddqjobs.detect": "names files of the reader's own; tests/unit/detect/test_align.py",
    r"status .*--watch|ddqjobs shell": "needs a terminal; tests/unit/cli/test_watch.py has one",
    r"ddqjobs site new": "asks Slurm; tests/slurm/test_new_site.py",
    rf"(?:{_ASKS})\b(?!.*--dry-run).*{_CLUSTERS}": "needs a cluster; tests/slurm",
    r"-C /data/|/shared/": "names a folder of the reader's own",
    r"env (?:build|lock|fetch|verify|remove) (?:modern|new-detr|legacy|my-stack)": "downloads gigabytes",
    r"data weights": "needs the network; tests/unit/data/test_weights.py",
    rf"{_STARTS} {_BIG}\b(?!.*--dry-run)": "needs GPUs, COCO and code trees",
    r"adopt ddq": "needs old results; tests/unit/submission/test_adoption.py",
    r"--export": "needs an optional package; tests/unit/report/test_command.py",
}
# Lines that may end with another code than 0, and why.
CODES = {
    r"ddqjobs doctor": ((0, 1), "this machine may lack what it asks for"),
    r"ddqjobs check ddq": ((0, 2), "its environments may not be built"),
    r"data verify": ((0, 1), "COCO may not be here"),
    r"data link": ((0, 2), "the code trees may not be here"),
    r"report mini --check": ((0, 1), "two epochs teach nothing, so a verdict may not hold"),
    r"adopt sweep": ((0, 2), "no task was renamed"),
    r"adopt my-mini": ((0, 2), "a second walk has nothing left to adopt"),
}
# Files that a page speaks of, or shows without their name.
SHOWN = {'_base_ = "mmdet::dino/dino-4scale': "experiments/configs/dino/dino-4scale.py"}
OWN_FILES = {
    "experiments/configs/mine/wider.py": '_base_ = "../nano/ddq-detr_r18_shapes.py"\n',
    "templates/mycluster/site.yaml": "name: mycluster\nbase: slurm\n",
}
SMALLER = (
    ("configs/mini/", "configs/nano/"),
    ('--images-train, "64"', '--images-train, "8"'),
    ('--images-val, "16"', '--images-val, "2"'),
    ("160x128", "96x64"),
)


class Walk:
    """A reader who types what the pages say."""

    def __init__(self, home: Path) -> None:
        self.home, self.here = home, home
        self.ran = 0
        self.left: dict[str, list[str]] = {}
        self.failed: list[str] = []
        home.mkdir(parents=True, exist_ok=True)
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DDQJOBS_")},
            "HOME": str(home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def page(self, page: Path) -> None:
        """Type the blocks of a page in the project where the page before it ended."""
        name = str(page.relative_to(ROOT))
        for language, text in markdown.blocks(page):
            if language in ("yaml", "python"):
                self._write(text)
            elif language in ("", "bash", "sh", "console"):
                for line in lines(text):
                    self._type(name, line)

    def _write(self, text: str) -> None:
        """Write a file that a page shows, where it is a whole one and the reader is in a project."""
        place = place_of(text)
        if place and self.here != self.home:
            file = self.here / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def _type(self, page: str, line: str) -> None:
        entry = f"{page}: {line}"
        if why := reason(entry):
            self.left.setdefault(why, []).append(entry)
            return
        began = time.monotonic()
        place = self.home / f".here.{os.getpid()}"
        script = f"{line}\ncode=$?; pwd > {shlex.quote(str(place))}; exit $code"
        done = process.run(["bash", "-c", script], timeout=_LIMIT_S, cwd=self.here, env=self.environ)
        self.here = Path(place.read_text().strip())
        if not self.here.is_relative_to(self.home):
            raise RuntimeError(f"{entry}: led out of {self.home}, to {self.here}")
        if line.startswith("ddqjobs init"):
            _prepare(Path(line.split()[2].replace("~", str(self.home))))
        self.ran += 1
        print(f"{done.code:3} {time.monotonic() - began:6.1f} s  {entry}", flush=True)
        if done.code not in next(
            (codes for pattern, (codes, _) in CODES.items() if re.search(pattern, line)), (0,)
        ):
            self.failed.append(entry)
            print(done.stdout[-1500:] + done.stderr[-1500:], flush=True)


def reason(entry: str) -> str:
    """Return why a line, `PAGE: LINE`, is not run; empty if it is."""
    return next((why for pattern, why in REASONS.items() if re.search(pattern, entry)), "")


def place_of(text: str) -> str:
    """Return the path of the file that a block shows; empty where it is a part of one."""
    if titled := re.match(r"# (experiments/[\w-]+\.yaml)\n", text):
        return titled[1]
    if location := next((place for start, place in SHOWN.items() if text.startswith(start)), ""):
        return location
    declared = re.match(r"(?:base: .*\n)?name: ([\w-]+)\n", text)
    if declared is None or re.search(r"^python: ", text, re.M):  # or an environment
        return ""
    site = re.search(r"^(?:scheduler|slurm|donau):|^base: (?:slurm|bscc)$", text, re.M)
    return f"templates/{declared[1]}/site.yaml" if site else f"experiments/{declared[1]}.yaml"


def lines(text: str) -> Iterator[str]:
    """Yield the lines that a reader types: those with a prompt where there are prompts, without what explains
    them; alternatives (`a|b`) one by one."""
    joined = re.sub(r"\\\n\s*", " ", text)
    stripped_lines = [line.strip() for line in joined.splitlines() if line.strip()]
    prompted = [line.removeprefix("$ ") for line in stripped_lines if line.startswith("$ ")]
    for line in prompted or stripped_lines:
        command = re.split(r"  +|\s#\s", line)[0].rstrip()
        choices = re.search(r"\b\w+(?:\|\w+)+\b", command)
        for choice in choices[0].split("|") if choices else ("",):
            if command and not command.startswith("#"):
                yield command.replace(choices[0], choice) if choices else command


def _prepare(project: Path) -> None:
    """Let a project's site local use the built environments, and write the reader's own files."""
    environments = os.environ.get("RUN_DOCS_ENVIRONMENTS") or str(ROOT / ".environments")
    site = json.dumps({"name": "local", "scheduler": "local", "environments": environments})
    for name, text in {
        **OWN_FILES,
        "templates/local/site.yaml": site,
        "experiments/mini.yaml": _small(),
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)


def _small() -> str:
    """Return the experiment mini at nano's size: minutes instead of an hour."""
    text = (ROOT / "experiments/mini.yaml").read_text()
    for old, new in SMALLER:
        assert old in text
        text = text.replace(old, new)
    return text


def pages() -> list[Path]:
    """Return all pages; first those that make the projects and sites of the others."""
    makers = ("tutorial/your-own-paper", "tutorial/miniature", "how-to/seeds-until-equivalence")
    names = (*makers, "how-to/first-day-slurm", "how-to/first-day-donau")
    first = [ROOT / "docs" / f"{name}.md" for name in names]
    return [*first, *(page for page in markdown.PAGES if page not in first)]


def main() -> int:
    """Walk through all pages, or those that are named."""
    walk = Walk(Path(sys.argv[1]).absolute())
    for page in [Path(page).absolute() for page in sys.argv[2:]] or pages():
        walk.page(page)
    for why, entries in walk.left.items():
        print(f"\nnot run ({len(entries)}): {why}")
        print("\n".join(f"    {line}" for line in entries))
    count = sum(map(len, walk.left.values()))
    print(f"\n{walk.ran} lines ran, {len(walk.failed)} of them ended otherwise, {count} were not run")
    print("\n".join(f"  {line}" for line in walk.failed))
    return 1 if walk.failed else 0


if __name__ == "__main__":
    sys.exit(main())
