"""Map lines that end tasks to a class, and to what the reason begins with. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from ddqjobs.spec.model import FailureClass as F


class Cause(NamedTuple):
    """The meaning of a line. ``begin``: how the reason begins, with the remedy if there is one. ``sure``: the
    line tells the cause wherever it stands near the end, also beside an exception of another kind."""

    failure: F
    begin: str
    pattern: re.Pattern[str]
    sure: bool = False


def _cause(failure: F, begin: str, pattern: str, *, sure: bool = False) -> Cause:
    return Cause(failure, begin, re.compile(pattern), sure)


NO_NETWORK = "no network on the node, bring weights before (`ddqjobs data weights`): "

# The first that fits a line.
CAUSES: tuple[Cause, ...] = (
    # -- what schedulers and the kernel say ---------------------------------------------------------------
    _cause(F.PREEMPTED, "preempted: ", r"DUE TO PREEMPTION", sure=True),
    _cause(F.NODE, "", r"DUE TO NODE FAILURE", sure=True),
    _cause(F.TIMEOUT, "", r"DUE TO TIME LIMIT", sure=True),
    _cause(F.PREEMPTED, "ended from outside: ", r"\*\*\* (?:JOB|STEP) .*CANCELLED AT", sure=True),
    _cause(
        F.OUT_OF_MEMORY,
        "host memory: ",
        r"oom[-_ ]kill|OOM Killed|task \d+: Out Of Memory|Out of memory: Killed process",
        sure=True,
    ),
    _cause(
        F.NODE,
        "Slurm could not start a step there: ",
        r"task launch failed|Unable to create step|[Ee]rror generating job credential|"
        r"unable to mkdir cgroup|slurmstepd: error: .*[Pp]rolog",
        sure=True,
    ),
    _cause(
        F.PREEMPTED,
        "ended from outside: ",
        r"SignalException: Process \d+ got signal: (?:10|12|15)\b|was evicted",
    ),
    # -- limits of a node or user -------------------------------------------------------------------------
    _cause(
        F.LIMIT,
        "shared memory (/dev/shm) is full, use fewer workers or enlarge it: ",
        r"insufficient shared memory|creating shared memory segment|"
        r"unable to mmap \d+ bytes from file </torch_|out of shared memory|killed by signal: Bus error|"
        r"[Uu]nexpected bus error|"
        r"(?:/dev/shm|/torch_\d).*No space left|No space left.*(?:/dev/shm|/torch_\d)",
        sure=True,
    ),
    _cause(
        F.LIMIT,
        "too many open files, raise `ulimit -n` or use fewer workers: ",
        r"Too many open files|\[Errno 24\]|received 0 items of ancdata",
    ),
    _cause(
        F.LIMIT,
        "too many processes or threads, raise `ulimit -u` or use fewer workers: ",
        r"can't start new thread|Resource temporarily unavailable|\[Errno 11\]",
    ),
    _cause(
        F.LIMIT,
        "a loader's worker died, perhaps for want of host memory: ",
        r"DataLoader worker .*(?:is killed by signal|exited unexpectedly)",
    ),
    # -- memory -------------------------------------------------------------------------------------------
    _cause(
        F.OUT_OF_MEMORY,
        "GPU memory: ",
        r"\b[A-Z]{2,4} out of memory|Unable to find a valid cuDNN|"
        r"CUDA error: out of memory|OutOfMemoryError|STATUS_ALLOC_FAILED|"
        r"CUBLAS_STATUS_NOT_INITIALIZED",
    ),
    _cause(
        F.OUT_OF_MEMORY,
        "host memory: ",
        r"Cannot allocate memory|MemoryError\b|Out Of Memory|can't allocate memory",
    ),
    # -- downloads; before the processes that do not meet, whose words they share ---------------------------
    _cause(
        F.DATA,
        NO_NETWORK,
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|"
        r"EndpointConnectionError|requests\.exceptions|"
        r"URLError|urlopen error|Max retries exceeded|couldn't connect to 'https?:",
    ),
    # -- processes that do not meet -----------------------------------------------------------------------
    _cause(
        F.HANG,
        "a process did not answer: ",
        r"watchdog got stuck|failed to pass monitoredBarrier|"
        r"Watchdog caught collective operation timeout|Watchdog .*timed? ?out|"
        r"Timeout\(ms\)=\d+\) ran for \d+ milliseconds|Timed out waiting \d+ms for",
        sure=True,
    ),
    _cause(
        F.NETWORK,
        "the port is taken, try again: ",
        r"Address already in use|EADDRINUSE|errno: 98\b|\[Errno 98\]",
    ),
    _cause(
        F.NETWORK,
        "the processes did not meet: ",
        r"DistStoreError|Rendezvous\w+Error|waiting for clients|clients joined|"
        r"client socket has (?:failed|timed)|"
        r"wait timeout after \d+ms|Socket Timeout|Connection refused|Gloo connectFullMesh failed|"
        r"No route to host|Network is unreachable|HcclGetRootInfo|Getting socket times out|"
        r"remote process exited",
    ),
    _cause(
        F.NODE,
        "",
        r"unhandled system error|ncclSystemError|ncclInternalError|ncclUnhandledCudaError|"
        r"unhandled cuda error|IBV_WC_",
    ),
    # -- GPUs and their driver ----------------------------------------------------------------------------
    _cause(
        F.NODE,
        "",
        r"uncorrectable (?:ECC|NVLink)|device needs a reset|Failed to initialize NVML|"
        r"OS call failed or operation not supported|"
        r"no CUDA-capable device|busy or unavailable|GPU is lost|fallen off the bus|"
        r"unspecified launch failure|CUDA unknown error|"
        r"Driver/library version mismatch|system not yet initialized|\bXid\b",
    ),
    _cause(
        F.NODE,
        "no GPU on the node: ",
        r"Found no NVIDIA driver|No CUDA GPUs are available|CUDA is not available|No devices were found|"
        r"couldn't communicate with the NVIDIA driver",
    ),
    _cause(
        F.ENVIRONMENT,
        "the driver or the GPU does not fit the environment: ",
        r"no kernel image is available|kernel image is invalid|"
        r"compiled with different CUDA|NVIDIA driver on your system is too old|"
        r"driver version is insufficient|forward compatibility was attempted|"
        r"not compiled with CUDA enabled|PTX was compiled with an unsupported",
    ),
    # -- file systems -------------------------------------------------------------------------------------
    _cause(
        F.STORAGE,
        "no room on a disk, free some: ",
        # The last ones are torch.save's, cut short.
        r"No space left on device|\[Errno 28\]|unexpected pos \d+ vs \d+|"
        r"PytorchStreamWriter failed writing|write\(\): fd \d+ failed",
    ),
    _cause(F.NODE, "", r"Input/output error|Transport endpoint is not connected"),
    _cause(F.STORAGE, "over quota, free some space: ", r"[Qq]uota exceeded|\[Errno 122\]"),
    _cause(F.STORAGE, "a disk is read-only, mount it anew: ", r"Read-only file system|\[Errno 30\]"),
    _cause(F.STORAGE, "a lost file server, mount it anew: ", r"Stale (?:NFS )?file handle|Errno 116\b"),
    _cause(
        F.STORAGE,
        "a file server did not answer: ",
        r"Errno 108\b|transport endpoint shutdown|(?:Errno 110\]|Connection timed out).*'/|Errno 112\b|"
        r"Communication error on send",
    ),
    _cause(
        F.DATA,
        NO_NETWORK,
        r"name resolution|Name or service not known|Connection timed out|\[Errno 110\]",
    ),
    # -- libraries ----------------------------------------------------------------------------------------
    _cause(
        F.ENVIRONMENT,
        "",
        r"ModuleNotFoundError|ImportError|undefined symbol|cannot open shared object|"
        r"Distributed package doesn't have|"
        r"module '(?:numpy|scipy|torch|PIL|cv2|mm\w+)[\w.]*' has no attribute|nvrtc: error|ptxas fatal|"
        r"PTXASError|"
        r"OMP: Error #15\b|: command not found|"
        r"is used but incompatible|binary incompatibility|Numpy is not available|compiled using NumPy 1|"
        r"version `?(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+'? not found|Weights ?[Oo]nly load failed|"
        r"WeightsUnpickler error",
    ),
    # -- data ---------------------------------------------------------------------------------------------
    _cause(F.DATA, "an image cannot be decoded (`ddqjobs data verify`): ", r"libpng error:", sure=True),
    _cause(
        F.DATA,
        "an image cannot be read (`ddqjobs data verify`): ",
        r"error: \(-215:Assertion failed\) !_?(?:src|img|buf)\.empty\(\)",
    ),
    _cause(
        F.DATA,
        "annotations lack a key (`ddqjobs data verify`): ",
        r"^KeyError: (?:.*: )?\W*(?:area|iscrowd|bbox|segmentation|category_id|image_id|file_name|categories|"
        r"images|annotations|width|height)\W*$",
    ),
    _cause(
        F.DATA,
        "",
        r"FileNotFoundError|JSONDecodeError|No such file or directory|UnicodeDecodeError|PermissionError|"
        r"BadZipFile|tarfile\.ReadError|zlib\.error|AssertionError: .*(?:[Aa]nnotation|coco set)|"
        r"num_samples should be a positive|"
        r"Permission denied|UnidentifiedImageError|image file is truncated",
    ),
    # -- training -----------------------------------------------------------------------------------------
    _cause(
        F.DIVERGED,
        "",
        r"[Ll]oss (?:is|became|becomes|was) (?:nan|inf)|is non-finite|"
        r"loss become infinite|FloatingPointError|NaN or Inf|"
        # SciPy, asked to match queries and objects by costs that are no numbers: before there is a loss.
        r"matrix contains invalid numeric entries|cost matrix is infeasible",
    ),
)

# What the type of an exception tells where nothing else does.
KINDS: tuple[Cause, ...] = (
    _cause(
        F.NETWORK,
        "the processes lost each other: ",
        r"DistBackendError|DistNetworkError|ncclUniqueId|^Connection(?:Reset|Refused|Aborted)?Error|^TimeoutError|"
        r"(?:[Cc]losed|reset) by peer|Broken pipe",
    ),
    # What a GPU or its driver says of itself. Errors that are not listed concern what the program asked for
    # (a device that it was not given, an impossible launch), which fails alike on every node.
    _cause(
        F.NODE,
        "",
        r"CUDA error: (?:unknown error|hardware stack error|the launch timed out|"
        r"peer access is not supported|.*\bMPS (?:server|client|control)|"
        r"system has unsupported display driver|.*\bor a hardware error)",
    ),
    _cause(F.DATA, "", r"^OSError: (?!\[Errno)"),
)


def of(line: str, known: tuple[Cause, ...] = CAUSES) -> Cause | None:
    """Return what a line means; None for one that means nothing of its own."""
    return next((cause for cause in known if cause.pattern.search(line)), None)
