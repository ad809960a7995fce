"""An optimizer with few parameter groups instead of one per parameter, and the same results bit by bit.

    optim_wrapper.constructor = MergedGroupsConstructor

mmengine makes a group of every parameter as soon as any has a setting of its own, and an optimizer launches
its kernels per group: 3,264 launches of AdamW per iteration of DDQ DETR instead of a dozen. Here parameters
of equal settings share a group. What is clipped keeps the model's order of parameters, so the gradient's
norm keeps its bits; checkpoints keep mmengine's layout, one group per parameter, so that either layout
loads the other's.
"""

from __future__ import annotations

from typing import Any, Sequence

import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

from . import host


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):  # type: ignore[misc]
    """mmengine's constructor with groups of equal settings merged, in order of their first parameter."""

    def __call__(self, model: Any) -> Any:
        """The optimizer wrapper of a model. Raises ValueError for a torch without the hooks this needs."""
        if not hasattr(torch.optim.Optimizer, "register_load_state_dict_pre_hook"):
            raise ValueError("MergedGroupsConstructor needs torch 2.1 or later")
        wrapper = super().__call__(model)
        optimizer = wrapper.optimizer
        single = [group for group in optimizer.param_groups if len(group["params"]) == 1]
        if len(single) < len(optimizer.param_groups) or len(single) < 3:
            return wrapper  # not mmengine's layout of one group per parameter, or nothing to merge
        layout = Layout(optimizer.param_groups)
        optimizer.layout = layout
        optimizer.param_groups[:] = layout.merged(optimizer.param_groups)
        optimizer.register_state_dict_post_hook(lambda _, state: layout.split(state))
        optimizer.register_load_state_dict_pre_hook(lambda _, state: layout.join(state))
        in_order = [{"params": layout.parameters}]
        wrapper.__class__ = _in_model_order(type(wrapper))
        wrapper.clip_groups = in_order
        return wrapper


def fit_schedulers(states: Sequence[Any], wrapper: Any) -> None:
    """Change states of mmengine's schedulers to the groups of an optimizer's wrapper: those of a training
    with merged groups to single ones, or the other way round.

    A scheduler keeps the first value of each group, and takes one after the other. mmengine adds the
    optimizer's own as one more group.

    Raises ValueError for states of other groups.
    """
    optimizer = wrapper.optimizer
    count, more = len(optimizer.param_groups), len(wrapper.param_groups) - len(optimizer.param_groups)
    merged = getattr(optimizer, "layout", None)
    layout = merged or Layout(optimizer.param_groups)
    if merged:
        other, places = len(layout.parameters), [members[0] for members in layout.members]
    else:
        at = {n: at for at, members in enumerate(layout.members) for n in members}
        other, places = len(layout.members), [at[n] for n in range(count)]
    for state in states:
        values = state.get("base_values")
        if values is None or len(values) == count + more:
            continue
        if len(values) != other + more:
            raise ValueError(
                f"a scheduler's state has the values of {len(values) - more} groups of parameters, the "
                f"optimizer has {count}"
            )
        state["base_values"] = [values[n] for n in places] + values[other:]


def _in_model_order(base: type) -> type:
    """A wrapper's class that clips the parameters in the order of the model."""

    class InModelOrder(base):  # type: ignore[misc]
        optimizer: Any
        clip_groups: Any

        norm: Any = None

        def _clip_grad(self) -> None:
            known = [
                parameter
                for parameter in self.clip_groups[0]["params"]
                if parameter.requires_grad and parameter.grad is not None
            ]
            norm = self.clip_func(known, **self.clip_grad_kwargs) if known else None
            self.norm = None if norm is None else host.Later([norm])

        def step(self, **kwargs: Any) -> None:
            super().step(**kwargs)
            # Read when the optimizer has launched its kernels: the GPU works while the host waits.
            norm, self.norm = self.norm, None
            if norm is not None:
                self.message_hub.update_scalar(f"train/{self.grad_name}", float(norm.read()[0]))

    InModelOrder.__name__ = InModelOrder.__qualname__ = base.__name__
    return InModelOrder


class Layout:
    """The merged group of each parameter of the model."""

    def __init__(self, groups: Sequence[Any]) -> None:
        self.parameters = [group["params"][0] for group in groups]
        places: dict[Any, list[int]] = {}
        for number, group in enumerate(groups):
            places.setdefault(_settings(group), []).append(number)
        self.members = list(places.values())  # numbers of the parameters of each merged group

    def merged(self, groups: Sequence[Any]) -> list[Any]:
        """The merged groups."""
        return [{**groups[m[0]], "params": [self.parameters[n] for n in m]} for m in self.members]

    def split(self, state: dict[str, Any]) -> dict[str, Any]:
        """An optimizer's state in the layout of one group per parameter."""
        number = [n for members in self.members for n in members]  # merged number -> number in the model
        groups: list[Any] = [None] * len(number)
        for group, members in zip(state["param_groups"], self.members):
            for n in members:
                groups[n] = {**group, "params": [n]}
        return {**state, "state": {number[k]: v for k, v in state["state"].items()}, "param_groups": groups}

    def join(self, state: dict[str, Any]) -> dict[str, Any]:
        """The reverse of :meth:`split`. Raises ValueError for the state of another model or other
        settings."""
        groups = state["param_groups"]
        if len(groups) != len(self.parameters) or any(len(g["params"]) != 1 for g in groups):
            raise ValueError(
                f"the optimizer's state has {len(groups)} groups; expected one for each of "
                f"{len(self.parameters)} parameters"
            )
        first = [groups[members[0]] for members in self.members]
        for one, members in zip(first, self.members):
            if any(_settings(groups[n]) != _settings(one) for n in members):
                raise ValueError(
                    "the optimizer's state has other settings per parameter than this configuration"
                )
        key = {g["params"][0]: n for n, g in enumerate(groups)}
        number = {n: k for k, n in enumerate(n for members in self.members for n in members)}
        joined, at = [], 0
        for one, members in zip(first, self.members):
            joined.append({**one, "params": list(range(at, at + len(members)))})
            at += len(members)
        return {
            **state,
            "state": {number[key[k]]: v for k, v in state["state"].items()},
            "param_groups": joined,
        }


def _settings(group: Any) -> tuple[Any, ...]:
    """All of a group but its parameters, to be compared."""
    return tuple((k, repr(v)) for k, v in sorted(group.items()) if k != "params")
