"""Width and height of an image from its first bytes, and whether its last ones are there: JPEG and PNG."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
# ITU-T T.81, table B.1: start of frame, all kinds; DHT, JPG and DAC lie between them.
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_TAIL = 4096  # some writers leave a few bytes behind the end


def read(path: Path) -> tuple[int, int]:
    """(width, height) in pixels. Raises ValueError in a few words if the file is no whole image, OSError."""
    with path.open("rb") as stream:
        head = stream.read(8)
        if not head:
            raise ValueError("empty")
        if head == _PNG:
            size, end = _png(stream), b"IEND"
        elif head[:2] == b"\xff\xd8":
            stream.seek(2)
            size, end = _jpeg(stream), b"\xff\xd9"
        else:
            raise ValueError("neither JPEG nor PNG")
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
        if end not in stream.read():
            raise ValueError("cut off: its end is missing")
    return size


def _take(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise ValueError("cut off in its header")
    return data


def _png(stream: BinaryIO) -> tuple[int, int]:
    """The first chunk is IHDR: length, type, width, height."""
    kind, width, height = struct.unpack(">4x4sII", _take(stream, 16))
    if kind != b"IHDR":
        raise ValueError("a PNG without a header")
    return width, height


def _jpeg(stream: BinaryIO) -> tuple[int, int]:
    """Segments are FF, marker, length, content; a start of frame has precision, height, width."""
    while True:
        if _take(stream, 1) != b"\xff":
            raise ValueError("a broken JPEG header")
        marker = _take(stream, 1)[0]
        while marker == 0xFF:  # fill bytes
            marker = _take(stream, 1)[0]
        if marker in _BARE:
            continue
        length = int(struct.unpack(">H", _take(stream, 2))[0])
        if marker in _FRAMES:
            height, width = struct.unpack(">xHH", _take(stream, 5))
            return width, height
        if length < 2 or marker == 0xDA:
            raise ValueError("a broken JPEG header")
        stream.seek(length - 2, os.SEEK_CUR)
