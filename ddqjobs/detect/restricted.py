"""A ``pickle_module`` for torch.load before 2.4, which cannot be told what ``weights_only`` may create.

Creates tensors, plain data and mmengine's training history, and nothing else; above all no function of the
file's choice is called. ``torch.storage._load_from_bytes`` is left out on purpose: it unpickles again.
"""

from __future__ import annotations

import pickle
from typing import IO, Any

_TORCH = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"}
_STORAGES = {
    f"{kind}Storage"
    for kind in ["Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"]
}
_NUMPY = {
    f"{name}DType" for name in ["Float64", "Float32", "Float16", "Int64", "Int32", "Int16", "UInt8", "Bool"]
}
ALLOWED = {
    ("collections", "OrderedDict"),
    *(("torch._utils", name) for name in _TORCH),
    *(("torch", name) for name in _STORAGES | {"Size", "device", "dtype"}),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"{core}.multiarray", name)
        for core in ("numpy.core", "numpy._core")
        for name in ("_reconstruct", "scalar")
    ),
    *(("numpy.dtypes", name) for name in _NUMPY),
    *(("mmengine.logging.history_buffer", "HistoryBuffer"),),
}


class Unpickler(pickle._Unpickler):
    """Raises UnpicklingError for anything that is not in ALLOWED."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name."""
        if (module, name) == ("builtins", "getattr"):
            return history_method
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
        return super().find_class(module, name)


def history_method(owner: object, name: str) -> Any:
    """Stand for ``getattr`` while a checkpoint is loaded: HistoryBuffer pickles its own methods with it.

    Raises ValueError for any other attribute.
    """
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "mean", "current"):
        raise ValueError(f"the checkpoint asks for attribute {name!r} of {owner!r}")
    return getattr(HistoryBuffer, name)


def load(file: IO[bytes], **options: Any) -> Any:
    """As pickle.load."""
    return Unpickler(file, **options).load()


PickleError, UnpicklingError = pickle.PickleError, pickle.UnpicklingError
HIGHEST_PROTOCOL = pickle.HIGHEST_PROTOCOL
