"""A stand-in for ``mmcv._ext``, mmcv's compiled operators, for environments that have mmcv-lite only.

``mmcv-lite`` ships all Python files of mmcv and lacks the compiled module. DDQ calls ``nms`` of it and
two-stage detectors RoIAlign; both are here in torch, by the exact rule of mmcv's CPU operators. Any other
operator can be looked up (mmcv does so on import) but says where to get it when called.

Call :func:`install` before anything of ``mmcv.ops`` or ``mmdet.models`` is imported.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Callable

NAME = "mmcv._ext"


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
            f"mmcv operator '{name}' is not in this environment: the stand-in for mmcv._ext has nms and "
            "roi_align only; use an environment with compiled mmcv, e.g. 'modern'"
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
    from .nms import nms
    from .roi_align import roi_align_backward, roi_align_forward

    module = _Ext(NAME, __doc__)
    # Without a spec importlib.util.find_spec raises ValueError, which mmengine does not expect. Without a
    # loader mmengine's mmcv_full_available() stays False, which is the truth.
    module.__spec__ = ModuleSpec(NAME, None)
    vars(module).update(nms=nms, roi_align_forward=roi_align_forward, roi_align_backward=roi_align_backward)
    sys.modules[NAME] = module
    sys.modules["mmcv"]._ext = module  # type: ignore[attr-defined]
    return True
