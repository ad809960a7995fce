"""Read Markdown pages as a test needs them: links, anchors, blocks of code."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

from tests.support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    """Return the text without its blocks and spans of code."""
    return re.sub(r"`[^`\n]+`", "", _BLOCK.sub("", text))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, those to other hosts left out."""
    targets: list[str] = _LINK.findall(prose(page.read_text(encoding="utf-8")))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site's generator make them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text(encoding="utf-8")), re.M)
    return {slug(heading) for heading in headings}


def slug(heading: str) -> str:
    """Return the anchor of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of each block of code."""
    return [(match[2], match[3]) for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def commands(page: Path) -> list[list[str]]:
    """Return the words of each `ddqjobs` command line in the blocks of a page, without what explains it.
    Blocks that say `text` show what commands print."""
    texts = [text for language, text in blocks(page) if language != "text"]
    lines = [line.strip().removeprefix("$ ") for text in texts for line in text.splitlines()]
    return [words(line) for line in lines if line.startswith("ddqjobs ")]


def words(line: str) -> list[str]:
    """Return the words of a command line up to a comment, or to the two spaces before its explanation."""
    command = re.split(r"  +|\s#\s|\s(?:\||>|&&)\s", line)[0]
    return [word.partition("|")[0] for word in shlex.split(command)]


def reference() -> ModuleType:
    """Return the tool that writes the reference pages."""
    return tool("reference")


def tool(name: str) -> ModuleType:
    """Return a program of `tools/` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
