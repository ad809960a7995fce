"""The digest of a run: everything that decides its result, in six named parts.

``2:definition-config-code-environment-data-upstream``: the format's number, then twelve hexadecimal digits
of SHA-256 for each part, so that two digests of a run also say *what* changed. The version of ddqjobs is not
in it: files are. A file counts with its closure: a configuration with its bases and the task code that it
names, and a project's own modules beside them (``configs.…``), a task module with the modules that it
imports. Python files count by their meaning
(:mod:`ddqjobs.planning.syntax`).

The launch script's own programs (check, launch, meet, product, proof, stage, tree, watchdog) do not count:
they start a task and read what it left.
"""

from __future__ import annotations

import functools
import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ddqjobs.planning import syntax
from ddqjobs.planning.bases import READS, names_weights
from ddqjobs.planning.outside import Outside, of_words
from ddqjobs.planning.syntax import Source
from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Input, Run

# Raised when a part is made by another rule, so that no result looks changed because ddqjobs has. Then
# _UNCHANGED says which parts of each former format are still made as today's are.
FORMAT = 2
_UNCHANGED = {1: ("definition", "environment", "data")}  # config and code were digests of text
PARTS = ("definition", "config", "code", "environment", "data", "upstream")
_ENCODER = msgspec.json.Encoder()
# A path below `configs/` of the project, or of its snapshot, `{code}`; not one of another tree.
_CONFIG = re.compile(r"(?:(?<![\w./-])|(?<=\{code\}/))configs/[\w./+@-]+")
Find = Callable[[str], "Path | None"]  # relative path below experiments/ or the task code's root -> file


class Content(NamedTuple):
    """The content of a file that an input names by path, as :class:`ddqjobs.spec.model.Input` has it."""

    sha256: str = ""
    size: int = 0
    changed_ns: int = 0


def sha(data: bytes) -> str:
    """Twelve hexadecimal digits of SHA-256: 48 bits, plenty to tell versions of one file apart."""
    return hashlib.sha256(data).hexdigest()[:12]


def format_of(digest: str) -> int:
    """Return the number of a digest's format; the first one had none."""
    number, colon, _ = digest.partition(":")
    return int(number) if colon and number.isdecimal() else 1


def parts(digest: str) -> tuple[tuple[str, str], ...]:
    """Return the name and the digits of each part."""
    return tuple(zip(PARTS, digest.rpartition(":")[2].split("-"), strict=False))


def compared(old: str, new: str) -> tuple[str, ...]:
    """Return the names of the parts that can be compared: all of one format, else those whose rule stayed."""
    formats = sorted((format_of(old), format_of(new)))
    return PARTS if formats[0] == formats[1] else _UNCHANGED.get(formats[0], ())


def changed(old: str, new: str) -> tuple[str, ...]:
    """Names of the parts in which two digests differ, of those that can be compared."""
    names = compared(old, new)
    before, after = dict(parts(old)), dict(parts(new))
    differing = tuple(part for part in names if before.get(part) != after.get(part))
    return differing or (PARTS if old != new and names == PARTS else ())


def with_upstream(run: Run, digests: Mapping[str, str]) -> Run:
    """The run as it will be with upstream results of these digests, whatever the experiment now says."""
    own = run.digest.split("-")[:-1]
    return msgspec.structs.replace(run, digest="-".join([*own, _upstream(run, digests)]))


def _upstream(run: Run, digests: Mapping[str, str]) -> str:
    return sha("\n".join(digests[name] for name in run.upstream).encode())


class Digester:
    """Digests the runs of one experiment; every file is read once.

    ``config`` finds files below ``experiments/``, ``module`` finds ``ddqjobs/detect/...``; ``environments``
    gives an environment's digest by name, ``trees`` the state of a code's own tree, ``file`` the content
    of a file that an input names by path (empty if it is not there), ``source`` what counts of a
    configuration or module.
    """

    def __init__(
        self,
        config: Find,
        module: Find,
        environments: Mapping[str, str],
        *,
        trees: Mapping[str, str] | None = None,
        file: Callable[[str], Content] = lambda _: Content(),
        source: Callable[[Path], Source] = syntax.read_file,
    ) -> None:
        self._config = functools.cache(config)
        self._module = functools.cache(module)
        self._file, self._source = functools.cache(file), functools.cache(source)
        self._environments, self._trees = environments, trees or {}
        self._named = functools.cache(self._named_in)
        self._configs = functools.cache(self._config_closure)
        self._modules = functools.cache(self._module_closure)

    def digest_all(self, experiment: Experiment, runs: Iterable[Run]) -> tuple[Run, ...]:
        """The same runs with their digests; upstream runs must come first."""
        digests: dict[str, str] = {}
        out: list[Run] = []
        data = sha(_ENCODER.encode(experiment.data))
        for run in runs:
            config, code = self._files(experiment, run)
            six = (
                sha(_ENCODER.encode(_definition(run))),
                config,
                code,
                self._environments.get(run.environment, "") or "0" * 12,
                self._data(run, data),
                _upstream(run, digests),
            )
            digests[run.name] = f"{FORMAT}:{'-'.join(six)}"
            out.append(msgspec.structs.replace(run, digest=digests[run.name], inputs=self._contents(run)))
        return tuple(out)

    def _contents(self, run: Run) -> tuple[tuple[str, Input], ...]:
        """Return a run's inputs with the contents of files, for its job to compare with what it finds."""
        if not any(value.path for _, value in run.inputs):
            return run.inputs
        known = ((r, value, self._file(value.path) if value.path else Content()) for r, value in run.inputs)
        return tuple((role, msgspec.structs.replace(value, **of._asdict())) for role, value, of in known)

    def _data(self, run: Run, declared: str) -> str:
        """The experiment's data version, with the contents of the files that the run's inputs name."""
        contents = [self._file(value.path).sha256 for _, value in run.inputs if value.path]
        return sha("\n".join([declared, *contents]).encode()) if any(contents) else declared

    def _files(self, experiment: Experiment, run: Run) -> tuple[str, str]:
        """Return the digests of a run's configurations and task code."""
        config, modules = self._entries(run)
        tree = experiment.codes[run.code]
        code = [tree.revision, self._trees.get(run.code, ""), self._modules(modules)]
        return config, sha("\n".join(code).encode())

    def modules(self, run: Run) -> dict[str, Source]:
        """Return what counts of a run's task code: relative path -> source."""
        return self.closure(self._entries(run)[1])

    def configs(self, run: Run) -> dict[str, Source]:
        """Return what counts of a run's configurations: relative path -> source."""
        return self._config_sources(self._named_by(run)[0])

    def unfollowed(self, runs: Iterable[Run], covers: Callable[[Run, Outside], bool]) -> tuple[str, ...]:
        """Return what the runs' configurations build on that no digest covers: one line each. ``covers``
        tells whether the environment or the code's tree has a module."""
        lines = dict[str, None]()
        seen = set[tuple[object, ...]]()
        for run in runs:
            configs = self._named_by(run)[0]
            imports = of_words((*run.command, *run.options))
            weights = tuple(word for word in run.options if names_weights(word.partition("=")[2]))
            key = (configs, run.environment, run.code, imports, run.variables, weights)
            if key in seen:
                continue
            seen.add(key)
            sources = sorted(self._config_sources(configs).items())
            declared = tuple(f"{READS}{name}" for name, _ in run.variables)  # which the digest has
            lines.update(
                (f"{name}, {line}", None)
                for name, source in sources
                for line in source.unfollowed
                if not line.endswith(declared)
            )
            lost = ((name, b) for name, source in sources for b in source.bases if self._is_lost(name, b))
            lines.update(
                (f"{name}, _base_ names {base}, which is not in the project", None) for name, base in lost
            )
            lines.update((f"{run.task}, option {word.replace('=', ' names ', 1)}", None) for word in weights)
            named = [(name, outside) for name, source in sources for outside in source.outside]
            named += [(run.task, outside) for outside in imports]
            lines.update((f"{name}, {o.place}", None) for name, o in named if not covers(run, o))
        return tuple(lines)

    def _is_lost(self, config: str, base: str) -> bool:
        """Tell whether a base is a file that no digest has."""
        place = posixpath.normpath(posixpath.join(posixpath.dirname(config), base))
        if "::" in base:
            return False
        return place.startswith(("/", "../")) or self._config(place) is None

    def _entries(self, run: Run) -> tuple[str, frozenset[str]]:
        """Return the digest of the configurations that a run's command, options and variables name, and the
        task modules that they or these name."""
        configs, modules = self._named_by(run)
        config, from_configs = self._configs(configs)
        return config, from_configs | modules

    def _named_by(self, run: Run) -> tuple[frozenset[str], frozenset[str]]:
        """Return the configurations and the task modules that a run names itself."""
        configs, modules = {run.config}, set[str]()
        for word in (*run.command, *run.options, *(value for _, value in run.variables)):
            named = self._named(word)
            configs |= named[0]
            modules |= named[1]
        return frozenset(configs), frozenset(modules)

    def _named_in(self, word: str) -> tuple[frozenset[str], frozenset[str]]:
        """Return the configurations and the task modules that a word of a command line names."""
        configs = frozenset(_CONFIG.findall(word)) if "configs/" in word else frozenset[str]()
        modules = syntax.MODULE.findall(word)
        own = (path for module in modules if _is_own(module) for path in _own(module))
        return configs.union(own), frozenset(module for module in modules if not _is_own(module))

    def _config_closure(self, entries: frozenset[str]) -> tuple[str, frozenset[str]]:
        """Return the digest of configurations and their bases, and the task modules that they name."""
        sources = self._config_sources(entries)
        modules = (m for source in sources.values() for m in source.modules if not _is_own(m))
        return _joined(sources), frozenset(modules)

    def _config_sources(self, entries: frozenset[str]) -> dict[str, Source]:
        """Return what counts of configurations, their bases and the project's own modules that they import:
        relative path -> source."""
        sources: dict[str, Source] = {}
        todo = list(entries)
        while todo:
            name = todo.pop()
            path = self._config(name) if name and name not in sources else None
            if path is None:
                continue
            sources[name] = self._source(path)
            # mmdet::... comes from the environment, which has its own part.
            bases = [base for base in sources[name].bases if "::" not in base]
            todo += [_join(name, base) for base in bases]
            for module in sources[name].modules:
                # Relative: mmengine's newer style, with read_base(): from ..base.schedule import *
                todo += (
                    [_join(name, place) for place in _beside(module)]
                    if module.startswith(".")
                    else _own(module)
                )
        return sources

    def _module_closure(self, entries: frozenset[str]) -> str:
        return _joined(self.closure(entries))

    def closure(self, entries: Iterable[str]) -> dict[str, Source]:
        """Return what counts of these modules and of all that they import: relative path -> source."""
        sources: dict[str, Source] = {}
        todo, seen = list(entries), set[str]()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for relative in _places(name):
                path = self._module(relative)
                if path is not None and relative not in sources:
                    sources[relative] = self._source(path)
                    todo += (_absolute(m, relative) for m in sources[relative].modules)
        return sources


def _joined(sources: Mapping[str, Source]) -> str:
    return sha("\n".join(f"{name}\n{source.form}" for name, source in sorted(sources.items())).encode())


def _places(module: str) -> Iterable[str]:
    """Yield where a module may lie, and the packages above it, which are loaded before it."""
    names = module.split(".")
    for end in range(2, len(names) + 1):
        place = "/".join(names[:end])
        yield from (f"{place}.py", f"{place}/__init__.py")


def _absolute(module: str, relative: str) -> str:
    """Return the full name of a module that the file at ``relative`` imports."""
    name = module.lstrip(".")
    above = len(module) - len(name)
    if not above:
        return module
    return ".".join([*relative.split("/")[:-above], *([name] if name else [])])


def _is_own(module: str) -> bool:
    """Tell a module of the project, beside its configurations, from task code."""
    return module.startswith((".", "configs."))


def _own(module: str) -> Iterable[str]:
    """Yield where a module of the project may lie, and the packages above it, which are loaded before it."""
    names = module.split(".")
    for end in range(1, len(names)):
        yield "/".join((*names[:end], "__init__.py"))
    yield from _files("/".join(names))


def _beside(module: str) -> Iterable[str]:
    """Yield where a module may lie that a file imports relatively."""
    name = module.lstrip(".")
    above = "../" * (len(module) - len(name) - 1)
    return _files(above + name.replace(".", "/")) if name else (f"{above}__init__.py",)


def _files(place: str) -> Iterable[str]:
    return f"{place}.py", f"{place}/__init__.py"


def _definition(run: Run) -> dict[str, object]:
    """Return what the experiment file says of a run, as far as it decides the result (time and memory do
    not)."""
    return {
        "kind": run.kind,
        "model": run.model,
        "seed": run.seed,
        "deterministic": run.deterministic,
        "command": run.command,
        "options": [option.removeprefix("+") for option in run.options],
        "config": run.config,
        "workdir": run.workdir,
        "launcher": run.launcher,
        "variables": run.variables,
        "inputs": [(role, i.artifact, i.path) for role, i in run.inputs],
        "products": run.products,
        "parallel": (run.resources.nodes, run.resources.gpus, run.resources.cpus),
    }


def _join(config: str, base: str) -> str:
    parts: list[str] = []
    for part in (*config.split("/")[:-1], *base.split("/")):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
