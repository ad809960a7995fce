"""Linux's error numbers, each with its class, and how they are written: by Python, C, C++ and shells.

Source: asm-generic/errno-base.h and errno.h of Linux, texts of glibc's strerror. What a number means depends
on what it was about: a file, a socket, shared memory, a download.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from ddqjobs.planning.known.cause import Cause, Weight
from ddqjobs.spec.model import FailureClass as F


class _Errno(NamedTuple):
    """``of_file``: its class about a file; ``of_socket``: about anything else."""

    text: str
    of_file: F
    of_socket: F


# Class about a file, class otherwise, numbers with their texts. What is code (a wrong argument, say) fails
# alike on every node.
_TABLE: tuple[tuple[F, F, str], ...] = (
    (
        F.CODE,
        F.CODE,
        """
        3 No such process
        4 Interrupted system call
        7 Argument list too long
        8 Exec format error
        9 Bad file descriptor
        10 No child processes
        14 Bad address
        15 Block device required
        17 File exists
        18 Invalid cross-device link
        22 Invalid argument
        25 Inappropriate ioctl for device
        29 Illegal seek
        33 Numerical argument out of domain
        34 Numerical result out of range
        35 Resource deadlock avoided
        36 File name too long
        38 Function not implemented
        39 Directory not empty
        40 Too many levels of symbolic links
        42 No message of desired type
        43 Identifier removed
        44 Channel number out of range
        45 Level 2 not synchronized
        46 Level 3 halted
        47 Level 3 reset
        48 Link number out of range
        49 Protocol driver not attached
        50 No CSI structure available
        51 Level 2 halted
        52 Invalid exchange
        53 Invalid request descriptor
        54 Exchange full
        55 No anode
        56 Invalid request code
        57 Invalid slot
        59 Bad font file format
        60 Device not a stream
        63 Out of streams resources
        65 Package not installed
        68 Advertise error
        69 Srmount error
        72 Multihop attempted
        73 RFS specific error
        75 Value too large for defined data type
        76 Name not unique on network
        77 File descriptor in bad state
        78 Remote address changed
        81 .lib section in a.out corrupted
        82 Attempting to link in too many shared libraries
        83 Cannot exec a shared library directly
        85 Interrupted system call should be restarted
        86 Streams pipe error
        88 Socket operation on non-socket
        89 Destination address required
        90 Message too long
        91 Protocol wrong type for socket
        92 Protocol not available
        93 Protocol not supported
        94 Socket type not supported
        95 Operation not supported
        96 Protocol family not supported
        97 Address family not supported by protocol
        106 Transport endpoint is already connected
        109 Too many references: cannot splice
        114 Operation already in progress
        115 Operation now in progress
        118 Not a XENIX named type file
        119 No XENIX semaphores available
        120 Is a named type file
        124 Wrong medium type
        125 Operation canceled
        132 Operation not possible due to RF-kill
        """,
    ),
    (
        F.DATA,
        F.DATA,
        """
        2 No such file or directory
        13 Permission denied
        20 Not a directory
        21 Is a directory
        84 Invalid or incomplete multibyte or wide character
        """,
    ),
    (
        F.NODE,
        F.NODE,
        """
        5 Input/output error
        6 No such device or address
        19 No such device
        74 Bad message
        117 Structure needs cleaning
        121 Remote I/O error
        123 No medium found
        131 State not recoverable
        130 Owner died
        133 Memory page has hardware error
        """,
    ),
    (
        F.STORAGE,
        F.NETWORK,
        """
        32 Broken pipe
        62 Timer expired
        64 Machine is not on the network
        67 Link has been severed
        70 Communication error on send
        71 Protocol error
        100 Network is down
        101 Network is unreachable
        102 Network dropped connection on reset
        103 Software caused connection abort
        104 Connection reset by peer
        105 No buffer space available
        107 Transport endpoint is not connected
        108 Cannot send after transport endpoint shutdown
        110 Connection timed out
        111 Connection refused
        112 Host is down
        113 No route to host
        """,
    ),
    (F.DATA, F.CODE, "1 Operation not permitted"),
    (F.NETWORK, F.NETWORK, "98 Address already in use\n99 Cannot assign requested address"),
    (
        F.STORAGE,
        F.STORAGE,
        """
        16 Device or resource busy
        26 Text file busy
        27 File too large
        28 No space left on device
        30 Read-only file system
        31 Too many links
        37 No locks available
        61 No data available
        66 Object is remote
        116 Stale file handle
        122 Disk quota exceeded
        126 Required key not available
        127 Key has expired
        128 Key has been revoked
        129 Key was rejected by service
        """,
    ),
    (
        F.STORAGE,  # a lock of a file that another process has
        F.LIMIT,
        "11 Resource temporarily unavailable",
    ),
    (F.LIMIT, F.LIMIT, "23 Too many open files in system\n24 Too many open files\n87 Too many users"),
    (F.OUT_OF_MEMORY, F.OUT_OF_MEMORY, "12 Cannot allocate memory"),
    (
        F.ENVIRONMENT,
        F.ENVIRONMENT,
        """
        79 Can not access a needed shared library
        80 Accessing a corrupted shared library
        """,
    ),
)


def _read() -> dict[int, _Errno]:
    rows: dict[int, _Errno] = {}
    for of_file, of_socket, block in _TABLE:
        for row in filter(None, (line.strip() for line in block.splitlines())):
            number, _, text = row.partition(" ")
            rows[int(number)] = _Errno(text, of_file, of_socket)
    return rows


ERRNOS = _read()

# How other programs and versions write some of them.
_OTHER_TEXTS = {
    "Stale NFS file handle": 116,
    "transport endpoint shutdown": 108,
    "Disk quota exceed": 122,
    "Quota exceeded": 122,
    "quota exceeded": 122,
    "exceeded quota": 122,
    "exceeded your quota": 122,
    "EADDRINUSE": 98,
    "No such device or directory": 2,
    "Could not allocate memory": 12,
    "not enough space on the disk": 28,
    "disk is full": 28,
    "disk full": 28,
}
_BY_TEXT = {errno.text: number for number, errno in ERRNOS.items()} | _OTHER_TEXTS
_NUMBER = re.compile(r"\[Errno (-?\d+)\]|\b[Ee]rr(?:no|or)?(?: ?[:=] ?|\s+)(\d+)\b|os error (\d+)|#(\d+): ")
_FILE = re.compile(
    r"'[^']*/[^']*'|\"[^\"]*/[^\"]*\"|[‘`'][^'’]+\.\w+['’]|(?:^|[\s(:=<])(?:~|\.{0,2})/[\w.~-]+/?[\w./~-]*|"
    r"filename|\b(?:un)?lock file|^(?:cp|mv|rm|dd|tar|mkdir|ln|rsync|cat|ls|touch|tee|df|stat|find|du|"
    r"head|cd): "
)
_SHARED = re.compile(r"/dev/shm|/torch_\d|/nccl-|shared memory|\bshm\b|psm_")
_ADDRESS = re.compile(
    r"https?://|\[?[\da-f.:]+\]?:\d{2,5}\b|socket|connect|port=|host=|[a-z][\w.-]+:\d{4,5}\b", re.I
)

_ROOM = "no room on a disk, free some"
BEGINNINGS = {
    11: "too many processes or threads, raise `ulimit -u` or use fewer workers",
    12: "host memory",
    23: "too many open files on the node",
    24: "too many open files, raise `ulimit -n` or use fewer workers",
    28: _ROOM,
    30: "a disk is read-only, mount it anew",
    98: "the port is taken, try again",
    116: "a lost file server, mount it anew",
    122: "over quota, free some space",
}
_OF_CLASS = {
    F.STORAGE: "a file system failed",
    F.NETWORK: "the processes did not meet",
}
SHARED_MEMORY = "shared memory (/dev/shm) is full, use fewer workers or enlarge it"
_SECOND_HAND = frozenset({32, 103, 104})


@functools.cache
def _text() -> re.Pattern[str]:
    """Return what finds a text, the longest first, since one begins another."""
    return re.compile("|".join(re.escape(text) for text in sorted(_BY_TEXT, key=len, reverse=True)))


def number_in(line: str) -> int | None:
    """Return the error number that a line says, by its text or else as ``[Errno 28]`` and alike."""
    named = _NUMBER.search(line)
    bracketed = named is not None and named.group(1) is not None
    if bracketed and named is not None and int(named.group(1)) in ERRNOS:
        return int(named.group(1))
    text = _text().search(line)
    if text is not None:
        return _BY_TEXT[text.group()]
    if named is None:
        return None
    number = int(next(group for group in named.groups() if group is not None))
    return number if number in ERRNOS and "rr" in named.group() and not _COMPANION.search(line) else None


# Lines whose numbers are other tables': CUDA's, HCCL's, exit codes.
_COMPANION = re.compile(r"CUDA|cuda|NCCL|HCCL|[Ee]xit|Xid|OMP|cudnn|HTTP|status|code")


def of(line: str, *, writes: bool = False) -> Cause | None:
    """Return what the error number of a line means; None without one, and for those that say nothing
    (:data:`FailureClass.CODE`). ``writes``: the program was writing a file."""
    number = number_in(line)
    if number is None:
        return None
    rest = _text().sub("", line)
    about_file = (number in _OF_SERVERS and _BARE.search(line)) or (
        _FILE.search(rest) and not _ADDRESS.search(rest)
    )
    if number in _OF_SHARED_MEMORY and _SHARED.search(line):
        return Cause(F.LIMIT, SHARED_MEMORY, "")
    failure = ERRNOS[number].of_file if about_file else ERRNOS[number].of_socket
    if number in _OF_WRITERS and (writes or _RESULTS.search(line)):
        failure = F.STORAGE
    if failure is F.CODE:
        return None
    begin = BEGINNINGS.get(number, _OF_CLASS.get(failure, ""))
    if number == 11 and failure is F.STORAGE:
        begin = _OF_CLASS[F.STORAGE]
    if number in _NO_RIGHT and failure is F.STORAGE:
        begin = "no right to write there, fix its permissions"
    return Cause(failure, begin, "", Weight.WEAK if number in _SECOND_HAND else Weight.PLAIN)


# Of Python's OSError without a file's name: sockets' have types of their own.
_BARE = re.compile(r"^OSError: \[Errno")
_OF_SERVERS = frozenset({62, 64, 67, 70, 71, 107, 108, 112})
_OF_SHARED_MEMORY = frozenset({2, 12, 17, 22, 27, 28, 122})
# Of those who write: no right to, a failed write. Of readers they concern the data.
_OF_WRITERS = frozenset({1, 13, 61, 121})
_NO_RIGHT = frozenset({1, 13})
_RESULTS = re.compile(r"/runs/[^/]+/attempts/\d+/")  # where a task only writes
