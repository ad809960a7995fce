"""``ddqjobs docs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddqjobs.cli.exits import reporting
from ddqjobs.cli.output import put


@reporting
def docs(
    page: Annotated[
        str,
        typer.Argument(metavar="[PAGE]", help="Page to show, as the list names it: how-to/data, or data."),
    ] = "",
    path: Annotated[bool, typer.Option("--path", help="Print where the page lies instead.")] = False,
) -> None:
    """List the documentation pages that ship with ddqjobs, or print one.

    Examples: ddqjobs docs; ddqjobs docs run-failed; ddqjobs docs slurm | less
    """
    from ddqjobs.base.errors import InputError, nearest

    pages = _pages()
    if not page:
        width = max(map(len, pages))
        put("\n".join(f"{name:{width}}  {_title(place)}" for name, place in pages.items()))
        return
    chosen = [name for name in pages if page in (name, name.rpartition("/")[2])]
    if not chosen:
        names = {*pages, *(name.rpartition("/")[2] for name in pages)}
        hint = nearest(page, names) or "; `ddqjobs docs` lists all"
        raise InputError(f"there is no page {page}{hint}")
    put(str(pages[chosen[0]]) if path else pages[chosen[0]].read_text(encoding="utf-8").rstrip("\n"))


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
