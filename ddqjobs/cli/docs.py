"""``ddqjobs docs``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import fail, inform, put

_EXCERPT = 100  # characters that a search shows
_LINK = re.compile(r"\[[^\]]*\]\(([^)]*)\)")  # of a page, as it stands there
_BEGINS = ("|", "* ", "#", "```")  # a line that does not go on with the one before it

Line = tuple[str, str]  # the anchor of the heading above it, empty at the top, and the text


@reporting
def docs(
    page: Annotated[
        str,
        typer.Argument(
            metavar="[PAGE]",
            help="Page to show: its name (data, how-to/data), or a link to it (../how-to/data.md#splits).",
        ),
    ] = "",
    path: Annotated[bool, typer.Option("--path", help="Print where the page lies instead.")] = False,
    search: Annotated[
        str,
        typer.Option("--search", metavar="TEXT", help="Print what contains these words; exit 1 if none."),
    ] = "",
) -> None:
    """List the documentation pages that ship with ddqjobs, or print one, from the heading of a link on.

    Examples: ddqjobs docs; ddqjobs docs run-failed; ddqjobs docs ../how-to/operations.md#canary; ddqjobs
    docs --search "out of memory"
    """
    pages = _pages()
    name, _, anchor = _LINK.sub(r"\1", page).partition("#")
    chosen = _chosen(name, pages) if page else ""
    if search:
        _search(search, {chosen: pages[chosen]} if chosen else pages)
    elif not chosen:
        width = max(map(len, pages))
        put("\n".join(f"{name:{width}}  {_title(place)}" for name, place in pages.items()))
    elif path:
        put(str(pages[chosen]))
    else:
        put(_from(anchor, chosen, pages[chosen]))


def _chosen(link: str, pages: Mapping[str, Path]) -> str:
    """Return the name of the page that a name or a link stands for. Raise InputError."""
    from ddqjobs.base.errors import InputError, nearest

    words = [word for word in link.removesuffix(".md").split("/") if word not in (".", "..", "")]
    name = "/".join(words[1:] if words[:1] == ["docs"] else words)
    chosen = [page for page in pages if name in (page, page.rpartition("/")[2])]
    if not chosen:
        names = {*pages, *(page.rpartition("/")[2] for page in pages)}
        hint = nearest(name, names) or "; `ddqjobs docs` lists all"
        raise InputError(f"there is no page {link}{hint}")
    return chosen[0]


def _from(anchor: str, name: str, page: Path) -> str:
    """Return the text of a page from a heading on; without an anchor all of it. Raise InputError."""
    from ddqjobs.base.errors import InputError, nearest

    read = list(lines(page))
    anchors = [above for above, _ in read]
    if anchor and anchor not in anchors:
        hint = nearest(anchor, dict.fromkeys(filter(None, anchors)))
        raise InputError(f"page {name} has no heading #{anchor}{hint}")
    return "\n".join(text for _, text in read[anchors.index(anchor) if anchor else 0 :]).rstrip("\n")


def _search(text: str, pages: Mapping[str, Path]) -> None:
    """Print the passages that contain all words of a text, each after a link to its heading; exit 1 if there
    are none."""
    words = text.lower().split()
    matches = [
        (f"{name}#{anchor}" if anchor else name, _excerpt(passage, words[0]))
        for name, place in pages.items()
        for anchor, passage in _passages(place)
        if words and all(word in passage.lower() for word in words)
    ]
    key = _of_keys(text)
    if not matches:
        fail(f"no page contains '{text}'{f'; {key}' if key else ''}")
        raise typer.Exit(1)
    put("\n".join(f"{link}: {excerpt}" for link, excerpt in matches))
    if key:
        inform(key)


def _of_keys(text: str) -> str:
    """Return what explains a key of files, if a text is one (``time``, ``limits.time``); else nothing."""
    from ddqjobs.cli.schema import explaining

    commands = explaining(text) if re.fullmatch(r"[a-z][a-z0-9_]*(\.[\w-]+)*", text) else {}
    see = " and ".join(commands.values())
    return f"for this key of {' and '.join(commands)} files see {see}" if commands else ""


def _excerpt(passage: str, word: str) -> str:
    """Return a passage, cut around the first place of a word if it is long."""
    first = max(0, min(passage.lower().find(word) - _EXCERPT // 3, len(passage) - _EXCERPT))
    last = first + max(_EXCERPT, len(word))
    return f"{'...' * (first > 0)}{passage[first:last]}{'...' * (last < len(passage))}"


def _passages(page: Path) -> Iterator[Line]:
    """Yield what stands together in a page, in one line: a paragraph, a point of a list, a row, a line of
    code."""
    above, passage, block = "", "", False
    for anchor, line in lines(page):
        fence = line.lstrip().startswith("```")
        if passage and (block or not line.strip() or line.lstrip().startswith(_BEGINS)):
            yield above, passage
            passage = ""
        block ^= fence
        above, passage = anchor, f"{passage} {line.strip()}".strip()
    if passage:
        yield above, passage


def lines(page: Path) -> Iterator[Line]:
    """Yield the lines of a page; what looks like a heading in a block of code is none."""
    anchor, block = "", False
    for line in page.read_text(encoding="utf-8").splitlines():
        block ^= line.lstrip().startswith("```")
        if line.startswith("#") and not block:
            anchor = _slug(line.lstrip("# "))
        yield anchor, line


def _slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _pages() -> dict[str, Path]:
    """Return the pages by their names, in the order of the parts."""
    from ddqjobs.spec.shipped import shipped_root

    root = shipped_root() / "docs"
    parts = ("tutorial", "how-to", "reference", "explanation", "decisions", "measurements")
    places = [
        *sorted(root.glob("*.md")),
        *(page for part in parts for page in sorted((root / part).glob("*.md"))),
    ]
    return {str(place.relative_to(root).with_suffix("")): place for place in places}


def _title(page: Path) -> str:
    """Return the first heading of a page."""
    with page.open(encoding="utf-8") as lines:
        return next((line[2:].strip() for line in lines if line.startswith("# ")), "").replace("`", "")
