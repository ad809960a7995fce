"""The types that configurations name: where they are registered, and what their constructors take.

For mmengine and for mmcv 1.x, whose registries are found in the modules that were imported.
"""

from __future__ import annotations

import inspect
import sys
import typing
from importlib.util import find_spec
from typing import Any, Iterator, NamedTuple

from .finding import ERROR, WARNING, Finding, closest, join, walk

_FAMILY = ("mm", "projects", "ddqjobs", "configs")  # packages whose modules hold registries
# Their own registries are elsewhere: what stands below them is not looked at.
_FOREIGN = ("Albu", "Albumentations")


class Registries:
    """All registries of this process, those of a scope first: mmcv and mmdet both have LoadAnnotations."""

    def __init__(self, scope: str = "mmdet") -> None:
        self._all = list(_registries())
        for registry in self._all:
            bring = getattr(registry, "import_from_location", None)
            if bring is not None:
                bring()
        self._all = sorted(_registries(), key=lambda registry: getattr(registry, "scope", "") != scope)

    def find(self, name: Any) -> Any:
        """Return what is registered by a name; None for nothing."""
        if not isinstance(name, str):
            return name  # a class, as in mmengine's newer configurations
        scope, _, real = name.rpartition(".")
        for registry in self._all:
            entry = registry.module_dict.get(real)
            if entry is not None and scope in ("", getattr(registry, "scope", scope)):
                return entry
        return self._by_scope(name) if scope else None

    def names(self) -> Iterator[str]:
        """Yield all names."""
        for registry in self._all:
            yield from (name for name in registry.module_dict if isinstance(name, str))

    def _by_scope(self, name: str) -> Any:
        """Return what a registry finds that is asked by name: it imports the package that a scope means."""
        for registry in self._all:
            try:
                entry = registry.get(name)
            except Exception:
                continue
            if entry is not None:
                return entry
        return None

    def unknown_scope(self, scope: Any) -> Iterator[Finding]:
        """Yield a default scope that neither a registry has nor a package."""
        scopes = {getattr(registry, "scope", "") for registry in self._all}
        if isinstance(scope, str) and scope not in scopes and find_spec(scope.partition(".")[0]) is None:
            said = f"default_scope '{scope}' is neither a registry's nor a package's"
            yield Finding("type", "default_scope", said, closest(scope, scopes))

    def unknown(self, section: Any, path: str, *, sure: bool = True) -> Iterator[Finding]:
        """Yield the types below a section of a configuration that nobody registered; ``sure``: nor will."""
        foreign = []  # type: list[str]
        for here, value in walk(section, path):
            name = value.get("type")
            if any(here.startswith(outer) for outer in foreign) or name is None:
                continue
            if name in _FOREIGN:
                foreign.append(f"{here}.")
            elif self.find(name) is None and not _is_operator(name):
                near = closest(str(name), self.names())
                said = f"{here}: type '{name}' is not registered"
                # A word in small letters may be for its head alone, as adapt_cfg=dict(type='dilation').
                level = ERROR if sure and not str(name)[:1].islower() else WARNING
                yield Finding("type", join(here, "type"), said, near, level)


def _is_operator(name: Any) -> bool:
    """Tell whether it is one of mmcv.ops, which NMS and RoI layers are taken from by name."""
    operators = sys.modules.get("mmcv.ops")
    return isinstance(name, str) and hasattr(operators, name)


def _registries() -> Iterator[Any]:
    seen = set()  # type: set[int]
    for name, module in list(sys.modules.items()):
        if not name.startswith(_FAMILY):
            continue
        for value in list(vars(module).values()):
            registry = type(value).__name__ == "Registry" and hasattr(value, "module_dict")
            if registry and id(value) not in seen:
                seen.add(id(value))
                yield value


class Takes(NamedTuple):
    """The parameters that a constructor takes: names with their parameters, and whether it takes any other
    name too."""

    names: dict[str, Any]  # name -> inspect.Parameter
    hints: dict[str, Any]
    others: bool


def takes(target: Any) -> Takes:
    """Return what a registered class or function takes, with what it hands on to the classes above it."""
    if not inspect.isclass(target):
        return _of_function(target)
    names = {}  # type: dict[str, Any]
    hints = {}  # type: dict[str, Any]
    first = None  # type: Takes | None
    for cls in target.__mro__:
        init = cls.__dict__.get("__init__")
        if init is None:
            continue
        if cls is object or (cls.__module__.startswith("torch.") and cls.__name__ in ("Module", "Dataset")):
            break
        own = _of_function(init)
        first = first or own
        names = {**own.names, **names}
        hints = {**own.hints, **hints}
        if not own.others:
            break
    # What no class above names goes elsewhere: EMAHook hands it to the average, RandomResize to Resize.
    others = first is not None and first.others and set(names) == set(first.names)
    return Takes(names, hints, others)


def _of_function(function: Any) -> Takes:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return Takes({}, {}, True)
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = {
        n: parameter
        for n, parameter in parameters.items()
        if parameter.kind not in kinds and n not in ("self", "cls")
    }
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # names that only a type checker knows
        hints = {}
    return Takes(names, hints, any(parameter.kind is kinds[0] for parameter in parameters.values()))
