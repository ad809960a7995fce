"""``ddqjobs data``: link, weights, verify."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddqjobs.cli.exits import SAME_AGAIN
from ddqjobs.cli.help import App
from ddqjobs.cli.output import COLOURS, put, say, say_json, style, table
from ddqjobs.cli.selection import JSON, Selection, filtered

if TYPE_CHECKING:
    from ddqjobs.data.data import Data, Verified
    from ddqjobs.data.links import Link
    from ddqjobs.data.weights import Found

    Progress = Callable[[str, int, int | None], None]

app = App(add_completion=False, help="Link, download and verify data sets and weights.", no_args_is_help=True)
_filtered = functools.partial(filtered, interrupted=SAME_AGAIN)
DRY_RUN = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]


def _data(selection: Selection) -> Data:
    return selection.project.data(selection.experiment, selection.filters, site=selection.site)


@app.command()
@_filtered
def link(
    selection: Selection,
    relink: Annotated[
        bool, typer.Option("--relink", help="Replace links that lead elsewhere; never a real folder.")
    ] = False,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Link data sets into the code trees, as `datasets:` in the experiment declares.

    If anything else occupies the path of a link, no link is made (exit 2, also with --dry-run).
    Examples: ddqjobs data link ddq --dry-run; ddqjobs data link ddq --implementation new
    """
    from ddqjobs.data import links

    all_links = _data(selection).links()
    todo = links.to_make(all_links, relink=relink)
    if dry_run:
        _show_links(all_links, todo, as_json, dry_run=True)
        links.refuse(all_links, todo)
        return
    links.make(all_links, todo)
    _show_links(all_links, todo, as_json, dry_run=False)


def _show_links(all_links: list[Link], todo: list[Link], as_json: bool, *, dry_run: bool) -> None:
    if as_json:
        rows = [
            {
                "dataset": f.dataset,
                "code": f.code,
                "path": f.path,
                "target": f.target,
                "there": f.there.value,
                "made": f in todo and not dry_run,
                "problem": "" if f in todo else f.problem,
            }
            for f in all_links
        ]
        say_json("data-link", dry_run=dry_run, links=rows)
        return
    if not all_links:
        say("nothing to link: none of these runs has a code tree that wants a link")
    for f in all_links:
        say(f"{f.code}: {f.path} -> {f.target}: {_link_state(f, todo, dry_run=dry_run)}")


def _link_state(link: Link, todo: list[Link], *, dry_run: bool) -> str:
    if link not in todo:
        return link.there.value if link.problem else "is linked"
    if not dry_run:
        return "linked"
    return f"would be linked (now a link to {link.leads})" if link.leads else "would be linked"


@app.command()
@_filtered
def weights(
    selection: Selection,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="DIR|URL", help="Look here first: a folder or a mirror; repeatable."),
    ] = None,
    tries: Annotated[
        int, typer.Option("--tries", min=1, help="Attempts in a row without a new byte before giving up.")
    ] = 4,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Download and verify the weights that runs read, or would download themselves at their start.

    An interrupted download is resumed. Exit 1 if weights are still missing or corrupt; corrupt files are not
    replaced. --dry-run contacts no server; it exits with 1 if weights are corrupt, or missing without a
    source.
    Examples: ddqjobs data weights ddq; ddqjobs data weights ddq --model 'ddq-detr-*' --from ~/usb
    """
    from ddqjobs.data.weights import bring, foresee

    sources = list(source or ())
    _check_sources(sources)
    data = _data(selection)
    files: list[Found] = []
    with _bar() as progress:
        for wanted in data.weights():
            if dry_run:
                files.append(foresee(wanted, sources, progress))
            else:
                from ddqjobs.data.transfer import Limits

                files.append(bring(wanted, data.project, sources, progress, Limits(tries=tries)))
    if as_json:
        say_json("data-weights", dry_run=dry_run, weights=[_weight_row(f) for f in files])
    else:
        _show_weights(files, sources, dry_run=dry_run)
    if any(f.bad for f in files):
        raise typer.Exit(1)


def _check_sources(sources: list[str]) -> None:
    from pathlib import Path

    from ddqjobs.base.errors import MissingError
    from ddqjobs.data.weights import is_url

    for source in sources:
        if not is_url(source) and not Path(source).expanduser().is_dir():
            raise MissingError(f"--from {source}: neither an existing folder nor an http(s) URL")


def _weight_row(f: Found) -> dict[str, object]:
    w = f.wanted
    return {
        "name": w.name,
        "file": w.file,
        "target": w.target,
        "url": w.weight.url,
        "there": f.there.value,
        "why": f.why,
        "sha256": f.sha256,
        "checksum": w.known,
        "brought": f.brought,
    }


def _show_weights(files: list[Found], sources: list[str], *, dry_run: bool) -> None:
    from ddqjobs.data.weights import would_ask

    if not files:
        say("no weights: none of these runs reads any that are declared")
        return
    rows = [(f.wanted.name, _state(f), f.wanted.known, f.wanted.target) for f in files]
    put(table(("WEIGHTS", "STATE", "CHECKSUM", "FILE"), rows))
    for f in files:
        if f.why:
            say(f"{f.wanted.name}: {f.why}")
        elif dry_run and f.there.value == "missing":
            say(f"{f.wanted.name}: would be brought from {', else '.join(would_ask(f.wanted, sources))}")


def _state(f: Found) -> str:
    return "brought" if f.brought else f.there.value


@app.command()
@_filtered
def verify(
    selection: Selection,
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="NAME", help="Only this split; repeatable.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=0, metavar="N", help="Open only so many images of each split."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", help="Write one split's annotations, fixed, to a new file."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Verify that the data sets are what detectors and pycocotools need: annotations, and every image.

    Exit 1 if something is wrong. Warnings (boxes without area, ...) are not errors; COCO itself has some.
    Examples: ddqjobs data verify ddq; ddqjobs data verify ddq --split val --fix val_mended.json
    """
    data = _data(selection)
    splits = data.splits(split or ())
    if fix is not None and len(splits) != 1:
        raise typer.BadParameter("needs one split; name it by --split", param_hint="--fix")
    results: list[Verified] = []
    with _bar() as progress:
        for dataset, name in splits:
            results.append(data.verify(dataset, name, sample, progress))
    errors = sum(f.level.value == "error" for r in results for f in r.findings)
    mended = data.mend(*splits[0], fix) if fix is not None else {}
    if as_json:
        say_json("data-verify", errors=errors, splits=[_verified_row(r) for r in results], mended=mended)
    else:
        if not results:
            say("nothing to verify: none of these runs reads such a split")
        for result in results:
            _show_verified(result)
        if fix is not None:
            _show_mended(mended, fix)
    if errors:
        raise typer.Exit(1)


def _verified_row(result: Verified) -> dict[str, object]:
    findings = [
        {
            "level": f.level.value,
            "where": f.where,
            "what": f.what,
            "count": f.count,
            "examples": list(f.examples),
            "mendable": f.mendable,
        }
        for f in result.findings
    ]
    return {
        "dataset": result.dataset,
        "split": result.split,
        "opened": result.opened,
        "images": result.images,
        "findings": findings,
    }


def _show_mended(mended: dict[str, int], out: Path) -> None:
    from ddqjobs.base.text import clean

    if not mended:
        say("nothing to fix: no file was written")
        return
    for what, count in mended.items():
        say(f"fixed: {what} ({count:,})")
    say(f"written: {clean(str(out))}; declare it in the experiment and verify it again")


def _show_verified(result: Verified) -> None:
    from ddqjobs.base.text import clean

    name = f"{result.dataset} {result.split}"
    if not result.findings:
        put(f"{_coloured('ok')}  {clean(name)}: whole{_sampled(result)}")
    elif result.opened < result.images:
        put(f"{_coloured('warning')}  {clean(name)}: {_sampled(result)[2:]}")
    for f in result.findings:
        text = f.what
        if f.examples:
            more = ", ..." if f.count > len(f.examples) else ""
            text = f"{f.count} {f.what}: {', '.join(f.examples)}{more}"
        text += "; --fix fixes it" if f.mendable else ""
        put(f"{_coloured(f.level.value)}  {clean(name)}: {clean(f.where)}: {clean(text)}")


def _sampled(result: Verified) -> str:
    if result.opened == result.images:
        return ""
    return f", of a sample: {result.opened:,} of {result.images:,} images were opened (--sample)"


def _coloured(level: str) -> str:
    word = f"{level:7}"
    return style(word, fg=COLOURS[level]) if sys.stdout.isatty() else word


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar on stderr, on a terminal only; it is gone in the end."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from ddqjobs.base.text import clean

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        last = ""

        def show(what: str, done: int, total: int | None) -> None:
            nonlocal last
            if what != last:
                bar.reset(task, description=clean(what), total=total)
                last = what
            bar.update(task, completed=done, total=total)

        yield show
