"""Begin every program that loads a model: operators, threads, safe loading, configuration."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any, Callable, Sequence

from . import files, ops, restricted

# What weights_only=True and our own unpickler call what they do not create.
_GLOBAL = re.compile(r"(?:Unsupported|Trying to load unsupported) (?:global|GLOBAL):? (?:GLOBAL )?([\w.]+)")


class CannotLoad(ValueError):
    """A configuration, an option of it or a checkpoint could not be loaded; the message is one line."""


def set_up() -> None:
    """Call before anything of mmdet: stand-in operators, thread count, safe loading of checkpoints."""
    ops.install()
    import torch

    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads):
        # torch reads the variable itself, except where another library started OpenMP before it.
        torch.set_num_threads(int(threads))
    allow_checkpoints()
    for message in (".*pkgutil.find_loader.*", ".*pkg_resources.*", ".*torch.meshgrid.*", ".*__array__.*"):
        warnings.filterwarnings("ignore", message=message)
    import mmdet.models  # noqa: F401  (registers)

    if generation() < 3:  # registers everything when it is imported
        return
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)


def generation() -> int:
    """2 for mmdet 2.x with mmcv 1.x, 3 for mmdet 3.x with mmengine."""
    import mmdet

    return int(mmdet.__version__.split(".")[0])


def allow_checkpoints() -> None:
    """Let ``torch.load(weights_only=True)``, torch's default since 2.6, read mmengine's checkpoints.

    They hold their message hub: HistoryBuffer objects with NumPy arrays. Only these may be created.
    """
    import numpy as np
    import torch

    add = getattr(torch.serialization, "add_safe_globals", None)
    if add is None:
        return
    from mmengine.logging import HistoryBuffer

    core: Any = getattr(np, "_core", None) or np.core
    classes = {type(np.dtype(code)) for code in ("f8", "f4", "f2", "i8", "i4", "i2", "u1", "?")}
    rebuild, scalar = core.multiarray._reconstruct, core.multiarray.scalar
    add([HistoryBuffer, np.ndarray, np.dtype, *sorted(classes, key=lambda c: str(c.__name__))])
    add([(rebuild, f"{package}.multiarray._reconstruct") for package in ("numpy._core", "numpy.core")])
    add([(scalar, f"{package}.multiarray.scalar") for package in ("numpy._core", "numpy.core")])
    add([(restricted.history_method, "builtins.getattr")])


def load_config(path: str, options: Sequence[str] = ()) -> Any:
    """Config (mmengine's, or with mmdet 2.x mmcv's) of a file, with ``key=value`` options merged.

    Raises CannotLoad for a file that is no Python and for an option that is none or that does not fit the
    configuration, and OSError for a missing file.
    """
    cfg = _config(path)
    merged = dict(key_and_value(option) for option in options)
    try:
        cfg.merge_from_dict(merged)
    except (AttributeError, KeyError, TypeError) as error:
        raise _misfit(path, options, error) from error
    if "LOCAL_RANK" in os.environ:  # started by torch.distributed.run
        cfg.launcher = "pytorch"
    return cfg


def _config(path: str) -> Any:
    if generation() < 3:
        from mmcv import Config
    else:
        from mmengine.config import Config
    try:
        return Config.fromfile(path)
    except SyntaxError as error:  # which names a file only in part of the cases
        text = f" in {error.text.strip()!r}" if error.text else ""
        where = f"{path}, or a configuration that it builds on, line {error.lineno}"
        raise CannotLoad(f"{where}: {error.msg}{text}") from error


def key_and_value(option: str) -> tuple[str, Any]:
    """Key and value of ``key=value``. Raises CannotLoad."""
    if generation() < 3:
        from mmcv import DictAction
    else:
        from mmengine.config import DictAction
    key, equals, value = option.partition("=")
    if not equals or not key:
        raise CannotLoad(f"option {option!r}: expected key=value")
    try:
        # mmengine takes a dict for text, and one of several keys in a list for several texts.
        if not value.lstrip("([").startswith(("{", "dict(")):
            return key, DictAction._parse_iterable(value)
    except (AssertionError, RecursionError):  # brackets that do not fit
        pass
    raise CannotLoad(
        f"option {option!r}: a value is a number, a word, or a list like [1,2] or (1,[2,3]); set each key of "
        "a dict by an option of its own, as model.neck.num_outs=4, or write a configuration file"
    )


def _misfit(path: str, options: Sequence[str], error: Exception) -> CannotLoad:
    """Return what to say of options that could not be merged: the first one that cannot be merged alone."""
    for option in options:
        try:
            _config(path).merge_from_dict(dict([key_and_value(option)]))
        except (AttributeError, KeyError, TypeError) as alone:
            return CannotLoad(f"option {option!r} does not fit {path}: {short(alone)}")
    return CannotLoad(f"the options do not fit {path} together: {short(error)}")


def short(error: Exception) -> str:
    """The first sentence of an error, without the configuration that mmengine prints into it."""
    text = str(error.args[0] if error.args else error).split(" You may set", 1)[0].splitlines()[0]
    return text if len(text) <= 200 else text[:200] + "..."


def build_model(cfg: Any) -> Any:
    """The model of a configuration, weights as constructed (call ``init_weights`` for initial ones)."""
    if generation() < 3:
        from mmdet.models import build_detector

        return build_detector(cfg.model, train_cfg=cfg.get("train_cfg"), test_cfg=cfg.get("test_cfg"))
    from mmdet.registry import MODELS

    return MODELS.build(cfg.model)


def load_checkpoint(path: Path) -> Any:
    """The dictionary of a checkpoint on the CPU; nothing but tensors, plain data and training history.

    Raises CannotLoad, in one line, for a file that is missing, torn, damaged, no checkpoint, or asks for
    code.
    """
    import torch

    why = files.damaged(path)
    if why:
        raise CannotLoad(f"{path}: {why}")
    try:
        value = torch.load(str(path), map_location="cpu", **_only_weights())
    except Exception as error:  # pickle's and torch's own errors have no common base
        raise CannotLoad(f"{path}: {_why(error)}; not loaded") from error
    if not isinstance(value, dict):
        raise CannotLoad(f"{path}: holds a {type(value).__name__}, not a dictionary")
    state = value.get("state_dict", value)
    if not isinstance(state, dict):
        raise CannotLoad(f"{path}: its state_dict is a {type(state).__name__}, not a dictionary")
    return value


def _only_weights() -> dict[str, Any]:
    """Return what makes torch.load create nothing but weights and plain data, with this version of torch."""
    import torch

    if hasattr(torch.serialization, "add_safe_globals"):
        return {"weights_only": True}
    return {"pickle_module": restricted}


def save(value: Any, path: Path, check: Callable[[Path], None] | None = None) -> None:
    """torch.save, atomically; ``check`` may look at the written file and raise before it is put in place."""
    import torch

    def write(temporary: Path) -> None:
        # An open file, not a path: torch writes a path's name into the archive, and its sha256 would vary.
        with temporary.open("wb") as stream:
            torch.save(value, stream)
        if check is not None:
            check(temporary)

    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, write)


def _why(error: BaseException) -> str:
    asked = _GLOBAL.search(str(error))
    if asked:
        return f"asks for {asked.group(1)}, which is no part of a checkpoint"
    if "weights_only" in str(error):  # torch's advice is to load it all the same, or to ask its makers
        return "is no checkpoint that can be read without running code from it"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:300]
