"""Files of weights beside torch's own: safetensors, and weights in several files (shards) with an index.

safetensors (https://github.com/huggingface/safetensors, README, *Format*): eight bytes, the length N of the
header as an unsigned little-endian number; N bytes of JSON, ``{name: {"dtype", "shape", "data_offsets":
[begin, end]}}`` and perhaps ``__metadata__``, text to text; then the tensors, row-major and little-endian.
Read here without the library, so that every environment can.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from . import files, runtime

SUFFIX = ".safetensors"
INDEX = ".index.json"
# Of a folder, the first that is there. The last is DeepSpeed's.
_IN_FOLDER = (
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "model.safetensors",
    "pytorch_model.bin",
    "mp_rank_00_model_states.pt",
)
_LARGEST_HEADER = 100 << 20  # bytes, as the library itself allows
# Name of the type -> NumPy's, and torch's where NumPy has none of its kind.
_TYPES = {
    "F64": ("<f8", ""),
    "F32": ("<f4", ""),
    "F16": ("<f2", ""),
    "BF16": ("<i2", "bfloat16"),
    "I64": ("<i8", ""),
    "I32": ("<i4", ""),
    "I16": ("<i2", ""),
    "I8": ("<i1", ""),
    "U8": ("<u1", ""),
    "BOOL": ("?", ""),
}


class Source(NamedTuple):
    """The weights that were read: a checkpoint's dictionary, in which form, and its identity."""

    content: Any
    form: str
    sha256: str
    size: int  # bytes


def load(path: Path) -> Source:
    """Return a checkpoint: a file of torch's or of safetensors, an index of shards, or a folder with one.

    Raises CannotLoad, in one line, for what is none, and OSError.
    """
    path = _in_folder(path) if path.is_dir() else path
    if not path.name.endswith(INDEX):
        form = "safetensors" if path.suffix == SUFFIX else "torch"
        return Source(_one(path), form, files.sha256(path), path.stat().st_size)
    shards = _shards(path)
    state: Any = OrderedDict()
    digests = []
    for shard in shards:
        part = _one(shard)
        double = [key for key in part if key in state]
        if double:
            raise runtime.CannotLoad(f"{shard}: holds {double[0]}, which another shard holds")
        state.update(part)
        digests.append(f"{files.sha256(shard)}  {shard.name}\n")
    form = f"{'safetensors' if shards[0].suffix == SUFFIX else 'torch'} in {len(shards)} shards"
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    return Source(state, form, digest, sum(shard.stat().st_size for shard in shards))


def members(path: Path) -> list[Path]:
    """Return the files that a checkpoint consists of, without their content. Raises CannotLoad, OSError."""
    path = _in_folder(path) if path.is_dir() else path
    return [path, *_shards(path)] if path.name.endswith(INDEX) else [path]


def _in_folder(folder: Path) -> Path:
    there = [folder / name for name in _IN_FOLDER if (folder / name).is_file()]
    if not there:
        raise runtime.CannotLoad(f"{folder}: a folder without {', '.join(_IN_FOLDER)}; name a file in it")
    return there[0]


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names, in order. Raises CannotLoad if one is missing."""
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        shards = [index.parent / name for name in dict.fromkeys(names)]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise runtime.CannotLoad(f"{index}: is no index of shards (weight_map)") from error
    wrong = [s for s in shards if s.parent != index.parent or not s.is_file()]
    if wrong or not shards:
        raise runtime.CannotLoad(f"{index}: its shard {wrong[0].name if wrong else ''} is not beside it")
    return sorted(shards)


def _one(path: Path) -> Any:
    return safetensors(path) if path.suffix == SUFFIX else runtime.load_checkpoint(path)


def safetensors(path: Path) -> Any:
    """Return name -> tensor of a file of safetensors. Raises CannotLoad, OSError."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > min(size - 8, _LARGEST_HEADER):
            raise runtime.CannotLoad(f"{path}: is no whole file of safetensors")
        try:
            header = json.loads(stream.read(length).decode("utf-8"))
            entries = [
                (k, v["dtype"], v["shape"], v["data_offsets"]) for k, v in header.items() if k[:2] != "__"
            ]
            entries.sort(key=lambda e: e[3])
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise runtime.CannotLoad(f"{path}: is no whole file of safetensors") from error
        state: Any = OrderedDict()
        end = 0
        for name, kind, shape, offsets in entries:
            state[name], end = _tensor(path, stream, (name, kind, shape, offsets), end)
        if end != size - 8 - length:
            raise runtime.CannotLoad(f"{path}: is no whole file of safetensors: {size} bytes")
    return state


def _tensor(path: Path, stream: Any, entry: Any, begin: int) -> tuple[Any, int]:
    """Return the tensor that begins where the one before it ended, and its own end."""
    import numpy as np
    import torch

    name, kind, shape, offsets = entry
    if kind not in _TYPES:
        raise runtime.CannotLoad(f"{path}: {name[:80]} is of the type {str(kind)[:20]}, which is not read")
    dtype, as_torch = _TYPES[kind]
    natural = all(type(n) is int and n >= 0 for n in [*shape, *offsets])
    count = int(np.prod(shape, dtype=object)) if natural else 0
    if not natural or offsets != [begin, begin + count * np.dtype(dtype).itemsize]:
        raise runtime.CannotLoad(f"{path}: {name[:80]} does not fit its place in the file")
    data = stream.read(offsets[1] - begin)
    if len(data) != offsets[1] - begin:
        raise runtime.CannotLoad(f"{path}: is cut off in {name[:80]}")
    tensor = torch.from_numpy(np.frombuffer(bytearray(data), dtype).reshape(shape))
    return (tensor.view(getattr(torch, as_torch)) if as_torch else tensor), offsets[1]
