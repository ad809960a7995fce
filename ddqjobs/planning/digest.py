"""The digest of a run: everything that decides its result, in six named parts.

``definition-config-code-environment-data-upstream``, twelve hexadecimal digits of SHA-256 each, so that
two digests of a run also say *what* changed. The version of ddqjobs is not in it: files are. A file
counts with its closure: a configuration with its bases and the task code that it names, a task module
with the modules that it imports.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from ddqjobs.spec.experiment import Experiment
from ddqjobs.spec.model import Run

PARTS = ("definition", "config", "code", "environment", "data", "upstream")
_ENCODER = msgspec.json.Encoder()
_MODULE = re.compile(r"\bddqjobs\.detect(?:\.[A-Za-z_]\w*)+")
Find = Callable[[str], "Path | None"]  # relative path below experiments/ or the task code's root -> file


def sha(data: bytes) -> str:
    """Twelve hexadecimal digits of SHA-256: 48 bits, plenty to tell versions of one file apart."""
    return hashlib.sha256(data).hexdigest()[:12]


def changed(old: str, new: str) -> tuple[str, ...]:
    """Names of the parts in which two digests differ."""
    pairs = zip(PARTS, old.split("-"), new.split("-"), strict=False)
    return tuple(part for part, a, b in pairs if a != b) or (() if old == new else PARTS)


def with_upstream(run: Run, digests: Mapping[str, str]) -> Run:
    """The run as it will be with upstream results of these digests, whatever the experiment now says."""
    own = run.digest.split("-")[:-1]
    return msgspec.structs.replace(run, digest="-".join([*own, _upstream(run, digests)]))


def _upstream(run: Run, digests: Mapping[str, str]) -> str:
    return sha("\n".join(digests[name] for name in run.upstream).encode())


class Digester:
    """Digests the runs of one experiment; every file is read once.

    ``config`` finds files below ``experiments/``, ``module`` finds ``ddqjobs/detect/...``; ``environments``
    gives an environment's digest by name, ``trees`` the state of a code's own tree, ``file`` the content's
    digest of a file that an input names by path (empty if it is not there).
    """

    def __init__(
        self,
        config: Find,
        module: Find,
        environments: Mapping[str, str],
        *,
        trees: Mapping[str, str] | None = None,
        file: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._config, self._module, self._environments = config, module, environments
        self._trees, self._file = trees or {}, file
        self._files: dict[str, str] = {}
        self._texts: dict[Path, str] = {}
        self._configs: dict[str, tuple[str, frozenset[str]]] = {}
        self._codes: dict[tuple[str, tuple[str, ...], str], str] = {}
        self._imports: dict[str, tuple[str, ...]] = {}

    def digest_all(self, experiment: Experiment, runs: Iterable[Run]) -> tuple[Run, ...]:
        """The same runs with their digests; upstream runs must come first."""
        digests: dict[str, str] = {}
        out: list[Run] = []
        data = sha(_ENCODER.encode(experiment.data))
        for run in runs:
            config, modules = self._config_closure(run.config)
            parts = (
                sha(_ENCODER.encode(_definition(run))),
                config,
                self._code(experiment, run, modules),
                self._environments.get(run.environment, "") or "0" * 12,
                self._data(run, data),
                _upstream(run, digests),
            )
            digests[run.name] = "-".join(parts)
            out.append(msgspec.structs.replace(run, digest=digests[run.name]))
        return tuple(out)

    def _data(self, run: Run, declared: str) -> str:
        """The experiment's data version, with the contents of the files that the run's inputs name."""
        contents = []
        for _, value in run.inputs:
            if value.path:
                if value.path not in self._files:
                    self._files[value.path] = self._file(value.path)
                contents.append(self._files[value.path])
        return sha("\n".join([declared, *contents]).encode()) if any(contents) else declared

    def _code(self, experiment: Experiment, run: Run, from_config: frozenset[str]) -> str:
        key = (run.code, run.command, run.config)
        if key not in self._codes:
            tree = experiment.codes[run.code]
            entries = sorted(from_config | {m for word in run.command for m in _MODULE.findall(word)})
            texts = [f"{name}\n{text}" for name, text in sorted(self._module_closure(entries).items())]
            self._codes[key] = sha("\n".join([tree.revision, self._trees.get(run.code, ""), *texts]).encode())
        return self._codes[key]

    def _config_closure(self, config: str) -> tuple[str, frozenset[str]]:
        """(digest of a configuration and its bases, task modules that they name)."""
        if config not in self._configs:
            texts = dict(self._config_files(config, ()))
            modules = frozenset(m for text in texts.values() for m in _MODULE.findall(text))
            joined = "\n".join(f"{name}\n{text}" for name, text in sorted(texts.items()))
            self._configs[config] = (sha(joined.encode()), modules)
        return self._configs[config]

    def _config_files(self, config: str, above: tuple[str, ...]) -> Iterable[tuple[str, str]]:
        path = self._config(config) if config else None
        if path is None or config in above:
            return
        text = self._text(path)
        yield config, text
        for base in _bases(text):
            if "::" not in base:  # mmdet::... comes from the environment, which has its own part
                yield from self._config_files(_join(config, base), (*above, config))

    def _module_closure(self, entries: Iterable[str]) -> dict[str, str]:
        texts: dict[str, str] = {}
        todo = list(entries)
        while todo:
            name = todo.pop()
            for relative in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
                path = self._module(relative)
                if path is not None and relative not in texts:
                    texts[relative] = self._text(path)
                    todo += self._imported(name, relative, texts[relative])
        return texts

    def _imported(self, name: str, relative: str, text: str) -> tuple[str, ...]:
        if relative not in self._imports:
            package = name if relative.endswith("__init__.py") else name.rpartition(".")[0]
            self._imports[relative] = tuple(_imports(text, package))
        return self._imports[relative]

    def _text(self, path: Path) -> str:
        if path not in self._texts:
            self._texts[path] = path.read_text(errors="replace")
        return self._texts[path]


def _definition(run: Run) -> dict[str, object]:
    """What the experiment file says of a run, as far as it decides the result (time and memory do not)."""
    return {
        "kind": run.kind,
        "model": run.model,
        "seed": run.seed,
        "deterministic": run.deterministic,
        "command": run.command,
        "options": run.options,
        "config": run.config,
        "workdir": run.workdir,
        "launcher": run.launcher,
        "variables": run.variables,
        "inputs": [(role, i.artifact, i.path) for role, i in run.inputs],
        "products": run.products,
        "parallel": (run.resources.nodes, run.resources.gpus, run.resources.cpus),
    }


def _bases(text: str) -> list[str]:
    """The files that an mmengine-style configuration names in ``_base_``, without running it."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # ValueError: null bytes, before Python 3.11.4
        return []
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "_base_" for t in node.targets
        ):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                return []
            return [value] if isinstance(value, str) else [v for v in value if isinstance(v, str)]
    return []


def _join(config: str, base: str) -> str:
    parts: list[str] = []
    for part in (*config.split("/")[:-1], *base.split("/")):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _imports(text: str, package: str) -> Iterable[str]:
    """Modules below ddqjobs.detect that a module imports, also relatively and inside functions."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # ValueError: null bytes, before Python 3.11.4
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith("ddqjobs.detect."))
