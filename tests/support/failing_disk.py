"""A file system that answers with an error: a file server without quota, or one that has lost its handles.

Real to whoever asks: the kernel mounts it, by the protocol of FUSE (``linux/fuse.h``), without its library.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

_IN, _OUT = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
_LOOKUP, _FORGET, _GETATTR, _STATFS, _INIT, _OPENDIR, _READDIR = 1, 2, 3, 17, 26, 27, 28
_RELEASEDIR, _BATCH_FORGET = 29, 42
_MAKES = (6, 8, 9, 13, 35)  # SYMLINK, MKNOD, MKDIR, LINK, CREATE
_ROOT = struct.pack(
    "<QII6Q10I", 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o777, 2, 0, 0, 0, 4096, 0
)
_ANSWERS = {
    _INIT: struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, 0, *[0] * 7),
    _GETATTR: _ROOT,
    _STATFS: struct.pack("<5Q4I6I", 1000, 900, 900, 1000, 900, 4096, 255, 4096, 0, *[0] * 6),
    _OPENDIR: struct.pack("<QII", 0, 0, 0),
    _READDIR: b"",
    _RELEASEDIR: b"",
}


@contextlib.contextmanager
def failing_disk(folder: Path, number: int) -> Iterator[None]:
    """An empty file system at a folder, on which nothing can be made: the error is ``number``; with ESTALE
    nothing can be looked at either. Raise OSError where none can be mounted."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40777,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"ddqjobs", os.fsencode(folder), b"fuse", 0, options):
        os.close(device)
        raise OSError(ctypes.get_errno(), "no FUSE", str(folder))
    server = os.fork()
    if server == 0:
        _serve(device, number)
    os.close(device)
    try:
        yield
    finally:
        libc.umount2(os.fsencode(folder), 2)
        os.kill(server, 9)
        os.waitpid(server, 0)


def _serve(device: int, number: int) -> None:
    while True:
        try:
            message = os.read(device, 1 << 18)
        except OSError:
            os._exit(0)
        _, word, unique, *_ = _IN.unpack_from(message)
        if word not in (_FORGET, _BATCH_FORGET):
            error, data = _answer(word, number)
            with contextlib.suppress(OSError):  # the process that asked was killed
                os.write(device, _OUT.pack(_OUT.size + len(data), -error, unique) + data)


def _answer(word: int, number: int) -> tuple[int, bytes]:
    if word in _MAKES or (number == errno.ESTALE and word != _INIT):
        return number, b""
    if word == _LOOKUP:
        return errno.ENOENT, b""
    data = _ANSWERS.get(word)
    return (errno.ENOSYS, b"") if data is None else (0, data)
