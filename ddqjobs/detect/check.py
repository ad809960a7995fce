"""Says what is wrong with configurations and their options before anything of them runs.

    python -m ddqjobs.detect.check REQUESTS ANSWERS
    python -m ddqjobs.detect.check --job CONFIG [key=value ...]

REQUESTS is JSON, a list of objects::

    config     path of the configuration, or mmdet::... as commands have it
    options    words key=value; +key=value adds what the configuration does not have, of whatever type
    kind       train, test, or anything else: then only loading, options and types are looked at
    variables  of the environment, set while the configuration is loaded
    own        folders and files of data that are the run's
    declared   whether it may read no other data
    metric     the figure of its log that the run is judged by; empty: box AP
    processes  of all nodes, if it has GPUs; else 0
    weights    names of the files in torch's cache that are brought before the run
    registers  whether the run's own program may register types: an unknown one is then a warning, and the
               package ``projects`` of the folder it runs in is imported, if there is one

ANSWERS is JSON, a list of objects in the same order::

    findings   kind, key, text, nearest, level (error, warning)
    resolved   the configuration with its options, as attempts record it; null if it does not load

Exit code 0 whatever is found, another if mmdet cannot be imported. One process; nothing is built and nothing
of the data is read but the categories of its annotations. A training or test of ours does the same once more
by :func:`load`, before its first iteration; before a code tree's own program the launch script does, with
``--job``: exit code 2 for what is wrong, 0 if that cannot be found out.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import resource
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from . import files, ops, runtime
from .checks import batch, data, outcome, pretrained, resolved, truth, values
from .checks.finding import ERROR, WARNING, Finding
from .checks.options import Options
from .checks.places import Places
from .checks.types import Registries
from .configurations import located

# What each kind of run reads: sections of an mmengine configuration, and data sets.
_READS = {
    "train": ("custom_hooks default_hooks env_cfg log_processor model optim_wrapper param_scheduler "
              "train_cfg train_dataloader val_cfg val_dataloader val_evaluator visualizer", "train val"),
    "test": ("custom_hooks default_hooks env_cfg log_processor model test_cfg test_dataloader "
             "test_evaluator visualizer", "test"),
}  # fmt: skip
_READS_2 = "custom_hooks data model optimizer optimizer_config runner"


_NO_OPERATORS = (
    "mmcv has no compiled operators in this environment, and programs of a code tree do not put ddqjobs' in "
    "their place; run `-m ddqjobs.detect.train` and `-m ddqjobs.detect.test` in the tree, or take an "
    "environment with compiled operators"
)


class Subject(NamedTuple):
    """One configuration with its options. ``of_tree``: its program is the code tree's own; ``weights`` None:
    whatever is to be downloaded, it is too late to bring it."""

    config: str
    options: Sequence[str] = ()
    kind: str = ""
    own: Sequence[str] = ()
    declared: bool = False
    registers: bool = False
    metric: str = ""
    processes: int = 0
    of_tree: bool = False
    weights: Sequence[str] | None = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--job"]:
        return _job(argv[1], argv[2:])
    requests = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    began = time.monotonic()
    runtime.set_up()
    ready = time.monotonic()
    checker = Checker()
    answers = []
    for request in requests:
        with _variables(request.get("variables") or {}):
            findings, cfg = checker.look(_subject(request))
            whole = resolved.plain(cfg._cfg_dict.to_dict(), os.environ) if cfg is not None else None
            answers.append({"findings": [f._asdict() for f in findings], "resolved": whole})
    files.replace_json(Path(argv[1]), answers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"check: {len(requests)} configuration(s) in {time.monotonic() - ready:.1f} s after "
        f"{ready - began:.1f} s of imports, {peak:.0f} MB"
    )
    return 0


def _job(config: str, options: Sequence[str]) -> int:
    if os.environ.get("DDQJOBS_NODE_RANK", "0") not in ("", "0") or find_spec("torch") is None:
        return 0
    if _run(Path(os.environ["DDQJOBS_ATTEMPT_DIR"])).get("unchecked"):
        return 0
    try:
        runtime.set_up()
        load(config, options, registers=True)
    except (runtime.CannotLoad, FileNotFoundError) as error:
        print(f"check: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # not the run's fault: its program says what is wrong, if anything is
        print(f"check: not made: {_short(error)}", file=sys.stderr)
    return 0


def load(config: str, options: Sequence[str], *, registers: bool = False) -> Any:
    """Return a configuration with its options. In an attempt they are checked, with the data that is there by
    now, and what comes of them is recorded. ``registers``: the program to come may register types itself.

    Raises CannotLoad for what is wrong, and OSError for a missing file.
    """
    attempt = os.environ.get("DDQJOBS_ATTEMPT_DIR", "")
    if not attempt:
        return runtime.load_config(located(config), options)
    run = _run(Path(attempt))
    if run.get("unchecked"):
        cfg = runtime.load_config(located(config), options)
    else:
        if registers:
            _register()
        cfg = runtime.load_config(located(config))
        # By key: a value that is secret is masked there.
        added = {word[1:].partition("=")[0] for word in run.get("options", ()) if word.startswith("+")}
        marked_options = [f"+{word}" if word.partition("=")[0] in added else word for word in options]
        subject = Subject(
            config, marked_options, run.get("kind", ""), registers=registers, metric=run.get("metric", ""),
            of_tree=registers, weights=None,
        )  # fmt: skip
        _require(Checker().examine(cfg, subject))
    if os.environ.get("RANK", "0") == "0" and os.environ.get("DDQJOBS_NODE_RANK", "0") in ("", "0"):
        plain = resolved.plain(cfg._cfg_dict.to_dict(), os.environ)
        try:
            files.replace_json(Path(attempt) / resolved.NAME, plain)
        except OSError as error:  # no reason to train less
            print(f"check: the configuration was not recorded: {error}", file=sys.stderr)
        _record_annotations(Path(attempt), cfg, str(run.get("kind", "")))
    return cfg


def _record_annotations(attempt: Path, cfg: Any, kind: str) -> None:
    splits = _READS.get(kind, ("", ""))[1].split()
    try:
        registries = Registries(cfg.get("default_scope") or "mmdet")
        datasets = list(data.of(cfg._cfg_dict.to_dict(), registries, runtime.generation(), splits))
        files.replace_json(attempt / truth.NAME, truth.digests(datasets))
    except Exception as error:  # no reason to train less
        print(f"check: the annotations were not recorded: {_short(error)}", file=sys.stderr)


def _register() -> None:
    """Import what the programs of code trees begin with: DDQ's, Co-DETR's do ``from projects import *``."""
    if Path("projects/__init__.py").is_file():
        with contextlib.suppress(Exception):  # its types are then unknown, which is no error there
            importlib.import_module("projects")


def _run(attempt: Path) -> dict[str, Any]:
    try:
        run = json.loads((attempt / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return run if isinstance(run, dict) else {}


def _require(findings: Sequence[Finding]) -> None:
    for finding in findings:
        print(f"check: {finding.level}: {finding.line()}", flush=True)
    wrong = [finding.line() for finding in findings if finding.level == ERROR]
    if wrong:
        more = f"; and {len(wrong) - 1} more, above" if wrong[1:] else ""
        raise runtime.CannotLoad(f"{wrong[0]}{more}")


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update({name: _expanded(value) for name, value in values.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _subject(request: Mapping[str, Any]) -> Subject:
    keys = {key: request[key] for key in Subject._fields if key in request}
    keys["config"] = keys["config"].replace("{code}", os.environ.get("DDQJOBS_CODE", "."))
    return Subject(**{**keys, "own": [_expanded(path) for path in keys.get("own", ())]})


def _expanded(value: str) -> str:
    """Return a value with what only this machine knows: a path of the user's, of a variable, or from here."""
    if value.startswith("./"):
        return str(Path.cwd() / value)
    return str(Path(os.path.expandvars(value)).expanduser()) if value.startswith(("~", "$")) else value


class Checker:
    """Checks configurations in one process, in which mmdet is imported."""

    def __init__(self) -> None:
        self._generation = runtime.generation()
        if self._generation < 3:  # whose programs import what registers data sets and hooks
            import mmdet.core
            import mmdet.datasets  # noqa: F401

    def check(self, subject: Subject) -> list[Finding]:
        """Return all that is wrong with a configuration and its options."""
        return self.look(subject)[0]

    def look(self, subject: Subject) -> tuple[list[Finding], Any]:
        """Return all that is wrong with a configuration and its options, and what they come to; None if it
        does not load."""
        if subject.registers:
            _register()
        try:
            cfg = runtime.load_config(located(subject.config))
        except Exception as error:  # whatever a configuration does when it is loaded
            return [Finding("load", "", f"{subject.config}: {_short(error)}")], None
        return self.examine(cfg, subject), cfg

    def examine(self, cfg: Any, subject: Subject) -> list[Finding]:
        """Return all that is wrong with a configuration that was loaded, and merge its options into it."""
        # custom_imports of this configuration may have registered more.
        registries = Registries(cfg.get("default_scope") or "mmdet")
        options = Options(Places(registries, self._generation))
        findings = []  # type: list[Finding]
        for option in sorted(subject.options, key=_is_of_values):
            findings += self._option(cfg, option, options)
        if findings:
            return findings  # of what follows from a wrong option one line is enough
        return list(self._contents(cfg._cfg_dict.to_dict(), subject, registries))

    def _option(self, cfg: Any, option: str, options: Options) -> list[Finding]:
        adds = option.startswith("+")
        try:
            values = dict(self._values(option[1:] if adds else option))
            plain = cfg._cfg_dict.to_dict()
            findings = [] if adds else [f for k, v in values.items() for f in options.check(plain, k, v)]
            cfg.merge_from_dict(values)
        except runtime.CannotLoad as error:
            return [Finding("option", option, str(error))]
        except (AttributeError, KeyError, TypeError) as error:
            key = option.lstrip("+").partition("=")[0]
            return [Finding("option", key, f"option {key}: {runtime.short(error)}")]
        return findings

    def _values(self, option: str) -> Iterator[tuple[str, Any]]:
        """Yield the keys and values of an option: several for dict(...), which train.py of mmdet 2.x takes.

        Raises CannotLoad.
        """
        key, _, value = option.partition("=")
        if self._generation < 3 and value.startswith("dict("):
            with contextlib.suppress(SyntaxError, ValueError, AttributeError):
                for word in ast.parse(value, mode="eval").body.keywords:  # type: ignore[attr-defined]
                    yield f"{key}.{word.arg}", ast.literal_eval(word.value)
                return
        yield runtime.key_and_value(option)

    def _contents(
        self, cfg: Mapping[str, Any], subject: Subject, registries: Registries
    ) -> Iterator[Finding]:
        sections, splits = _READS.get(subject.kind, ("model", ""))
        if self._generation < 3 and splits:
            sections = _READS_2
        for section in sections.split():
            yield from registries.unknown(cfg.get(section), section, sure=not subject.registers)
        yield from outcome.check(cfg, subject.kind, registries, self._generation, subject.metric)
        yield from registries.unknown_scope(cfg.get("default_scope"))
        yield from values.check(cfg, subject.kind, registries, subject.own)
        named = splits.split()
        datasets = list(data.of(cfg, registries, self._generation, named))
        yield from data.check(datasets, subject.own, declared=subject.declared)
        yield from data.heads(cfg.get("model"), datasets)
        if subject.kind == "train":
            yield from pretrained.check(cfg, subject.weights)
            yield from batch.check(cfg, subject.processes)
        yield from data.evaluators(cfg, datasets, named)
        if subject.of_tree and named and ops.install():
            yield Finding("operators", "", _NO_OPERATORS, level=WARNING)


def _is_of_values(option: str) -> bool:
    """Tell whether an option names no type. Options are merged at once, so types decide about all of them."""
    return not option.partition("=")[0].endswith(".type")


def _short(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:300] if isinstance(error, runtime.CannotLoad) else f"{type(error).__name__}: {text[:300]}"


if __name__ == "__main__":
    sys.exit(main())
