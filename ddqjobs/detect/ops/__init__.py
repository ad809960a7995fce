"""A stand-in for ``mmcv._ext``, mmcv's compiled operators, for environments that have mmcv-lite only.

``mmcv-lite`` ships all Python files of mmcv and lacks the compiled module. DDQ calls ``nms`` of it and
two-stage detectors RoIAlign; both are here in torch, by the exact rule of mmcv's CPU operators. On a GPU DDQ
also calls deformable attention and the sigmoid focal loss; there all four are Triton kernels, all of them
deterministic. Any other operator can be looked up (mmcv does so on import) but says where to get it
when called.

Call :func:`install` before anything of ``mmcv.ops`` or ``mmdet.models`` is imported.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable

NAME = "mmcv._ext"
OPS = ("nms", "roi_align", "ms_deform_attn (on a GPU)", "sigmoid_focal_loss")


class MissingOp(NotImplementedError):
    """An operator that only compiled mmcv has was called."""


class _Ext(ModuleType):
    """Has every public attribute: mmcv asserts that its operators exist when it is imported."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return _missing(name)


def _missing(name: str) -> Callable[..., Any]:
    def op(*_: object, **__: object) -> Any:
        raise MissingOp(
            f"mmcv operator '{name}' is not in this environment: the stand-in for mmcv._ext has "
            f"{', '.join(OPS)} only; use an environment with compiled mmcv"
        )

    op.__name__ = name
    return op


def install() -> bool:
    """Put the stand-in at ``sys.modules['mmcv._ext']`` unless compiled operators are there.

    Returns whether the stand-in is in place. Without any mmcv it does nothing and returns False.
    """
    if NAME in sys.modules:
        return isinstance(sys.modules[NAME], _Ext)
    if importlib.util.find_spec("mmcv") is None or importlib.util.find_spec(NAME) is not None:
        return False
    module = _Ext(NAME, __doc__)
    # Without a spec importlib.util.find_spec raises ValueError, which mmengine does not expect. Without a
    # loader mmengine's mmcv_full_available() stays False, which is the truth.
    module.__spec__ = ModuleSpec(NAME, None)
    for name, implementation in (
        ("nms", _nms),
        ("sigmoid_focal_loss_forward", _focal_loss),
        ("sigmoid_focal_loss_backward", _focal_loss),
        ("ms_deform_attn_forward", _deformable_attention),
        ("ms_deform_attn_backward", _deformable_attention),
        ("roi_align_forward", _roi_align),
        ("roi_align_backward", _roi_align),
    ):
        setattr(module, name, _by_device(name, implementation))
    sys.modules[NAME] = module
    sys.modules["mmcv"]._ext = module  # type: ignore[attr-defined]
    return True


def _by_device(name: str, implementation: Callable[[bool], Any]) -> Callable[..., Any]:
    """An operator that looks at its first tensor for the module to take it from. Triton is loaded on a GPU
    only."""

    def op(first: Any, *args: Any, **kwargs: Any) -> Any:
        module = implementation(first.is_cuda)
        if module is None:
            return _missing(f"{name} on the CPU")()
        return getattr(module, name)(first, *args, **kwargs)

    op.__name__ = name
    return op


# Imports are written out: a run's digest covers the modules that are imported so, and no others.


def _nms(on_gpu: bool) -> Any:
    if on_gpu:
        from . import nms_kernels

        return nms_kernels
    from . import nms

    return nms


def _focal_loss(on_gpu: bool) -> Any:
    if on_gpu:
        from . import focal_kernels

        return focal_kernels
    from . import focal_loss

    return focal_loss


def _roi_align(on_gpu: bool) -> Any:
    if on_gpu:
        from . import roi_align_kernels

        return roi_align_kernels
    from . import roi_align

    return roi_align


def _deformable_attention(on_gpu: bool) -> Any:
    if not on_gpu:
        return None
    from . import deformable_attention

    return deformable_attention
