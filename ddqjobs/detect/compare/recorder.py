"""Outputs of a model's modules, and of points of its code, as arrays. Needs torch."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

from . import dumps, modules

# Of objects that are neither containers nor data elements: mmdet's AssignResult.
_FIELDS = ("gt_inds", "labels", "max_overlaps", "assign_metrics")


class Point(NamedTuple):
    """Something to record under a name of its own."""

    path: str  # a module, or with brackets a method; empty: nothing is recorded under this name
    fields: Sequence[str] = ()
    by: str = ""  # the field whose order the others are brought into; see ``arranged``


class Recorder:
    """Arrays in the order in which they came; of each but the data and what is unordered at most ``values``
    values (0: all)."""

    def __init__(self, values: int = 0) -> None:
        self.arrays: dumps.Arrays = {}
        self._values = values
        self._calls: dict[str, int] = {}
        self._order = 0

    def add(self, name: str, value: Any, *, unordered: bool = False) -> None:
        """Record a value, which may be anything that holds tensors; ``unordered`` if its rows have none."""
        import numpy as np

        call = self._calls[name] = self._calls.get(name, -1) + 1
        place = f"{self._order:06d}|{name}|{call}|"
        for part, array in leaves(value):
            # Rows that are to be matched stay whole: a sample of each side would be of other rows.
            if name == modules.DATA or unordered or not 0 < self._values < array.size:
                self.arrays[place + part] = array
            else:
                self.arrays[place + part] = thinned(array, self._values)
                self.arrays[f"{place}{part}.shape"] = np.array(array.shape)
        if unordered:
            self.arrays[place + modules.UNORDERED] = np.array(True)
        self._order += 1

    @contextlib.contextmanager
    def watch(self, model: Any, points: Mapping[str, Point]) -> Iterator[None]:
        """Record the outputs of all modules and of the points while the block runs."""
        known = {point.path: name for name, point in points.items()}
        undo: list[Callable[[], Any]] = []
        try:
            for path, module in model.named_modules():
                name = known.get(path, path)
                if path and points.get(name, Point(path)).path:
                    hook = module.register_forward_hook(self._hook(name))
                    undo.append(hook.remove)
            for name, point in points.items():
                if point.path.endswith("()"):
                    undo.append(self._wrap(model, name, point))
            yield
        finally:
            for action in undo:
                action()

    def _hook(self, name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: self.add(name, output)

    def _wrap(self, model: Any, name: str, point: Point) -> Callable[[], Any]:
        owner_path, _, method = point.path[:-2].rpartition(".")
        try:
            owner = functools.reduce(_member, filter(None, owner_path.split(".")), model)
            original = getattr(owner, method)
        except (AttributeError, IndexError) as error:
            raise ValueError(f"point {name}: the model has no {point.path}") from error

        def recorded(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            images = arranged(output, point)
            self.add(name, images, unordered=_unordered(images, point))
            return output

        # Past nn.Module's own __setattr__, which would register what it gets.
        vars(owner)[method] = recorded
        return lambda: vars(owner).pop(method)


def thinned(array: Any, values: int) -> Any:
    """At most ``values`` of an array's values, at equal distances that have no divisor in common with its
    sides: whole columns would else be left out."""
    step = -(-array.size // values)
    while math.gcd(step, array.size) > 1:
        step += 1
    return array.ravel()[::step].copy()


def _member(owner: Any, name: str) -> Any:
    return owner[int(name)] if name.isdigit() else getattr(owner, name)


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(part, array) of everything in a value that holds numbers."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        yield prefix or "value", value.detach().cpu().numpy().copy()
    elif isinstance(value, (bool, int, float, np.ndarray, np.generic)):
        yield prefix or "value", np.array(value)
    elif isinstance(value, Mapping):
        for key in value:
            yield from leaves(value[key], f"{prefix}.{key}".lstrip("."))
    elif hasattr(value, "_fields"):  # a named tuple
        yield from leaves(dict(zip(value._fields, value)), prefix)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from leaves(item, f"{prefix}.{number}".lstrip("."))
    elif hasattr(value, "pred_instances") or (hasattr(value, "items") and callable(value.items)):
        instances = value.pred_instances if hasattr(value, "pred_instances") else value
        yield from leaves(dict(instances.items()), prefix)
    else:
        fields = {name: getattr(value, name, None) for name in _FIELDS}
        yield from leaves({k: v for k, v in fields.items() if v is not None}, prefix)


def _unordered(images: Any, point: Point) -> bool:
    """Return whether the rows are to be matched by the comparison: a field with columns orders nothing."""
    return bool(point.by) and any(image[point.by].ndim > 1 for image in images)


def arranged(output: Any, point: Point) -> Any:
    """The values of each image called ``fields``, or what was returned if there are none, in the order of the
    field ``by`` if that is one number a row. ``output`` is a list with a named tuple for each image, or a
    list over the images for each field, in the fields' order."""
    if not point.fields:
        return output
    if all(hasattr(image, "_fields") for image in output):
        images = [{field: getattr(image, field) for field in point.fields} for image in output]
    else:
        images = [dict(zip(point.fields, values)) for values in zip(*output)]
    if not point.by or _unordered(images, point):
        return images
    return [{field: value[image[point.by].argsort()] for field, value in image.items()} for image in images]


def points_of(declared: Mapping[str, Any], side: str, model: Any) -> dict[str, Point]:
    """Name -> point of one side, of the classes that the model has. Raises ValueError for a point that is
    none, or does not name the side."""
    classes = {type(module).__name__ for module in model.modules()}
    by_name = {}
    for owner, points in declared.items():
        if not isinstance(points, dict):
            raise ValueError(f"points: {owner} holds no points: expected {{class: {{name: point}}}}")
        if owner in classes:
            by_name.update({name: _point(name, declared, side) for name, declared in points.items()})
    return by_name


def _point(name: str, declared: Any, side: str) -> Point:
    if declared is None:
        return Point("")
    chosen = declared.get(side) if isinstance(declared, dict) and "path" not in declared else declared
    if isinstance(chosen, str):
        return Point(chosen)
    if not isinstance(chosen, dict) or not isinstance(chosen.get("path"), str):
        raise ValueError(f"point {name}: no path for side {side!r}")
    return Point(chosen["path"], tuple(chosen.get("fields", ())), chosen.get("by", ""))
