"""A new project: its folders and the files to start from."""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path

from ddqjobs.base.errors import InputError, StateError, nearest, refusal
from ddqjobs.planning import site_to_fill_in
from ddqjobs.planning.bases import bases
from ddqjobs.planning.catalog import Catalog
from ddqjobs.spec.shipped import shipped_root
from ddqjobs.spec.site import DEFAULT_SITE

_EXPERIMENT = """\
# A variant of the miniature experiment: anything you omit is inherited.
# `ddqjobs schema experiment` prints all keys; `ddqjobs plan my-mini` shows what it makes of them.
base: mini
name: my-mini
title: my first experiment
"""

_README = """\
# A ddqjobs project

What is to be done, and why; the scripts without submitting; do it; the AP table:

    ddqjobs plan {experiment}{on_site}
    ddqjobs submit {experiment}{on_site} --dry-run
    ddqjobs submit {experiment}{on_site} --wait
    ddqjobs report {experiment}{on_site}

`experiments/`, `templates/` (sites) and `envs/` override what ships with ddqjobs, file by file.
"""


def init(folder: Path, source: str = "", site: str = "") -> list[Path]:
    """Make a project in ``folder``, with a copy of the shipped experiment ``source``, its configurations and
    those that they build on, or with a variant of the miniature; with a file to describe a ``site`` that is
    like a shipped one. What is there already stays as it is. Return the new files. Raise InputError,
    StateError."""
    text = {
        **(_copied(source) if source else {"experiments/my-mini.yaml": _EXPERIMENT}),
        **_described(site),
        "results/.gitignore": "*\n!.gitignore\n",
        ".gitignore": ".environments/\n.weights/\n",
        "README.md": _README.format(experiment=name_of_experiment(source), on_site=option(site)),
    }
    written: list[Path] = []
    try:
        for name in ("experiments", "templates", "envs", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for relative, content in text.items():
            path = folder / relative
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
                written.append(path)
    except OSError as error:
        raise StateError(f"{error.filename or folder}: {refusal(error, folder)}") from error
    return written


def sites() -> list[str]:
    """Return the sites that ship, the machine at hand first."""
    names = sorted(path.parent.name for path in (shipped_root() / "templates").glob("*/site.yaml"))
    return sorted(names, key=lambda name: name != DEFAULT_SITE)


def name_of_experiment(source: str) -> str:
    """Return the name of the experiment that starts from a shipped one, or from the miniature."""
    return f"my-{source or 'mini'}"


def name_of_site(site: str) -> str:
    """Return the name that a new project's site has: `local` needs no file of its own."""
    return f"my-{site}" if site and site != DEFAULT_SITE else DEFAULT_SITE


def option(site: str) -> str:
    """Return the option that names a new project's site; nothing for the machine at hand."""
    name = name_of_site(site)
    return "" if name == DEFAULT_SITE else f" --site {name}"


def _described(site: str) -> dict[str, str]:
    """Return the file that describes a site; nothing for the machine at hand."""
    if site and site not in sites():
        hint = nearest(site, sites()) or f"; there are {', '.join(sites())}"
        raise InputError(f"no site {site} ships with ddqjobs{hint}")
    if name_of_site(site) == DEFAULT_SITE:
        return {}
    name = name_of_site(site)
    base = Catalog(shipped_root()).site(site)
    return {f"templates/{name}/site.yaml": site_to_fill_in.text(name, base)}


def _copied(source: str) -> dict[str, str]:
    """Return the files of a shipped experiment under a name of their own: path and text."""
    shipped = shipped_root() / "experiments"
    names = {path.stem for path in shipped.glob("*.yaml")}
    if source not in names:
        hint = nearest(source, names) or f"; there are {', '.join(sorted(names))}"
        raise InputError(f"no experiment {source} ships with ddqjobs{hint}")
    text = (shipped / f"{source}.yaml").read_text(encoding="utf-8")
    copies = {f"experiments/my-{source}.yaml": re.sub(r"(?m)^name: .*$", f"name: my-{source}", text, count=1)}
    return copies | _configurations(shipped, set(re.findall(r"\bconfigs/[\w./-]+\.py\b", text)))


def _configurations(shipped: Path, names: set[str]) -> dict[str, str]:
    """Return those of the named configurations that ship, and those that they build on: path and text."""
    texts: dict[str, str] = {}
    waiting = sorted(names, reverse=True)
    while waiting:
        name = waiting.pop()
        if f"experiments/{name}" in texts or not (shipped / name).is_file():
            continue
        text = texts[f"experiments/{name}"] = (shipped / name).read_text(encoding="utf-8")
        folder = posixpath.dirname(name)
        waiting += [posixpath.normpath(f"{folder}/{base}") for base in bases(ast.parse(text)).names]
    return texts
