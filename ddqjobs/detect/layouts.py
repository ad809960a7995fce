"""Find where in a checkpoint the weights are, and what the programs of this field put before their names.

A set of weights is a dictionary of text to tensors: the checkpoint itself, or one that it holds by a key
(``state_dict``, ``model``, ``ema``, DeepSpeed's ``module``), perhaps one level deeper (``ema: module``). Its
names may begin with what a wrapper put there (``module.``, torch.compile's ``_orig_mod.``, Lightning's
``model.``); what is to be taken away follows from the names of the target, not from a list of prefixes.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

from . import runtime
from .compare.mappings import EMA

COMPILED = "_orig_mod."  # torch.compile puts it before the names in each module that it compiled
_DEEPEST = 4  # parts of a name that a wrapper may have put before it
_WRAPPERS = frozenset({"", "module.", "model.", "_forward_module.", "module.model.", "model.module."})
_MAKERS = (
    ("pytorch-lightning_version", "Lightning"),
    ("ds_version", "DeepSpeed"),
    ("dp_world_size", "DeepSpeed"),
    ("matching_heuristics", "Detectron2"),
    ("message_hub", "mmengine"),  # each checkpoint of its runner has one
)


class Layout(NamedTuple):
    """A set of weights: where it is, and what is before the names of the model's weights."""

    maker: str  # the program that wrote the checkpoint, as far as it can be told
    place: str  # key in the checkpoint, "ema.module" for one in another; empty: the checkpoint itself
    prefix: str  # before each name, without the parts that torch.compile put in
    state: Any

    @property
    def name(self) -> str:
        """Name for ``--weights``: the key, with the prefix if it tells one set from another."""
        prefix = "" if self.prefix in _WRAPPERS else self.prefix[:-1]
        return ":".join(part for part in (self.place, prefix) if part) or "weights"

    def __str__(self) -> str:
        place = f"weights in {self.place!r}" if self.place else "bare weights"
        before = f" below {self.prefix!r}" if self.prefix else ""
        return f"{self.maker + ', ' if self.maker else ''}{place}{before}"


def plain(key: str) -> str:
    """Return a name without what torch.compile put into it."""
    return key.replace(COMPILED, "")


def choose(
    checkpoint: Any, target: Any, rename: Callable[[str], str], wanted: str | None, source: object
) -> Layout:
    """Return the set of weights that is meant. ``rename``: a name of the source's -> one of the target's.

    Raises CannotLoad if there are two that fit the target and ``wanted`` does not name one, or if it names
    none.
    """
    maker = _maker(checkpoint)
    sets = _sets(checkpoint, maker)
    layouts = [
        Layout(maker, place, prefix, state)
        for place, state in sets.items()
        for prefix in _prefixes(state, target, rename)
    ]
    if not layouts:  # none fits: say what is wrong with the likeliest
        place = next((place for place in (wanted or "", "state_dict", *sets) if place in sets), "")
        state = sets.get(place, checkpoint)
        return Layout(maker, place, _common(state), state)
    names = [layout.name for layout in layouts]
    if wanted is not None:
        if wanted not in names:
            raise runtime.CannotLoad(f"--weights {wanted}: {source} has: {', '.join(names)}")
        return layouts[names.index(wanted)]
    if len(layouts) > 1:
        raise runtime.CannotLoad(
            f"{source} holds {len(layouts)} sets of weights that fit: {', '.join(names)}; choose by --weights"
        )
    return layouts[0]


def swapped(maker: str, key: str) -> bool:
    """Tell what mmengine's hook for averages leaves: the weights that it averaged. Before it saves, they
    change places with the average, which is the state_dict; what others write under that name is a set."""
    return maker == "mmengine" and key == EMA


def _sets(checkpoint: Any, maker: str) -> dict[str, Any]:
    """Place -> a set of weights."""
    state = checkpoint.get("state_dict")
    if state is None and _is_weights(checkpoint):
        return {"": checkpoint}
    sets: dict[str, Any] = {"state_dict": state} if isinstance(state, dict) else {}
    for key, value in checkpoint.items():
        if not isinstance(key, str) or key == "state_dict" or not isinstance(value, dict):
            continue
        if swapped(maker, key):
            continue
        if _is_weights(value):
            sets[key] = value
        else:
            inner = {f"{key}.{k}": v for k, v in value.items() if k in ("module", "model", "state_dict")}
            sets.update({place: v for place, v in inner.items() if _is_weights(v)})
    return sets


def _is_weights(value: Any) -> bool:
    import torch

    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())
    )


def _maker(checkpoint: Any) -> str:
    meta = checkpoint.get("meta")
    for key in ("mmengine_version", "mmcv_version"):
        if isinstance(meta, dict) and key in meta:
            return "mmengine" if key == "mmengine_version" else "mmcv"
    return next((maker for key, maker in _MAKERS if key in checkpoint), "")


def _prefixes(state: Any, target: Any, rename: Callable[[str], str]) -> list[str]:
    """Return what may be before the target's names: below each, all of them are there."""
    keys = [plain(key) for key in state if isinstance(key, str)]
    wanted = set(target)
    if not wanted or not keys:
        return []
    parts = {".".join(key.split(".")[:n]) + "." for key in keys for n in range(1, _DEEPEST)}
    prefixes = []
    for prefix in sorted({"", *parts}, key=lambda prefix: (len(prefix), prefix)):
        below = {rename(key[len(prefix) :]) for key in keys if key.startswith(prefix)}
        if wanted <= below:
            prefixes.append(prefix)
    return prefixes


def _common(state: Any) -> str:
    """Return what DistributedDataParallel has put before each name."""
    keys = [key for key in state if isinstance(key, str)]
    return "module." if keys and all(plain(key).startswith("module.") for key in keys) else ""
