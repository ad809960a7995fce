"""Messages of libraries of communication when processes do not meet, or lose each other.

Programs: NCCL's ncclResult_t and warnings, c10d's ProcessGroupNCCL, TCPStore and socket.cpp, gloo, elastic
launchers, Open MPI, UCX, HCCL.
"""

from __future__ import annotations

from ddqjobs.planning.known.cause import Cause, Weight, cause
from ddqjobs.spec.model import FailureClass as F

_LOST = "the processes lost each other"

# What follows on another process's death.
LOST = cause(
    F.NETWORK,
    _LOST,
    r"DistBackendError: .*ncclUniqueId|ncclRemoteError|remote process exited|"
    r"[Cc]losed by (?:remote )?peer|reset by peer|"
    r"recvValue failed|sendBytes failed|failed to recv, got 0 bytes|Connection was likely closed|"
    r"[Bb]roken ?[Pp]ipe|[Cc]onnection (?:is |was )?(?:closed|lost|aborted)|peer (?:has )?(?:died|"
    r"terminated|disconnected)|"
    r"Socket closed",
    weight=Weight.WEAK,
)

PROCESSES: tuple[Cause, ...] = (
    cause(
        F.CODE,
        "",
        r"Duplicate GPU detected|mismatch between collectives|[Cc]ollectives? .*(?:mismatch|"
        r"differ)\w* across|"
        r"running collective: CollectiveFingerPrint|Default process group has not been initialized|"
        r"Expected to have finished reduction",
    ),
    cause(
        F.ENVIRONMENT,
        "",
        r"Distributed package doesn't have|(?:NCCL|nccl) (?:library is|version mismatch)|"
        r"Mismatched NCCL version|"
        r"[Uu]nknown c10d backend|compiled with too old version of NCCL",
    ),
    cause(
        F.LIMIT,
        "shared memory (/dev/shm) is full, use fewer workers or enlarge it",
        r"insufficient shared memory|(?:creating|extending|attaching to) shared memory segment|"
        r"unable to mmap \d+ bytes from file </torch_|(?<!resource: )out of shared memory|"
        r"killed by signal: Bus error|"
        r"failed to create shared memory (?:file|mapping)|[Uu]nexpected bus error|"
        r"shared memory .*(?:exhausted|is full)|"
        r"unable to (?:write to|open|resize|allocate) (?:file|shared memory)\b.*</torch_|"
        r"(?:shared memory (?:\(shm\))?|shm)(?: size| limit).*(?:too small|exceeded|insufficient)",
        weight=Weight.FIRM,
    ),
    cause(
        F.LIMIT,
        "a loader's worker died, perhaps for want of host memory",
        r"DataLoader worker .*(?:is killed by signal|exited unexpectedly)|"
        r"pin memory thread exited unexpectedly|"
        r"[Pp]rocess in the process pool was terminated abruptly|BrokenProcessPool",
        weight=Weight.WEAK,
    ),
    cause(
        F.LIMIT,
        "too many open files, raise `ulimit -n` or use fewer workers",
        r"received 0 items of ancdata|inotify (?:instance|watch) limit",
    ),
    cause(
        F.LIMIT,
        "too many processes or threads, raise `ulimit -u` or use fewer workers",
        r"can't start new thread|pthread_create (?:failed|.*error)|fork(?:: retry)?: (?:retry|Resource)|"
        r"Thread creation failed|unable to allocate necessary resources for OMP|System error #11|"
        r"std::system_error.*Resource|RLIMIT_NPROC|blas_thread_init",
    ),
    cause(
        F.LIMIT,
        "",
        r"[Ff]ile size limit exceeded|[Cc]putime limit exceeded|CPU time limit exceeded|"
        r"(?:RLIMIT_MEMLOCK|memlock|locked memory|max locked).*(?:limit|too (?:low|small))|max_map_count",
    ),
    cause(
        F.HANG,
        "a process did not answer",
        # those who watch over processes: fault-tolerant launchers, DeepSpeed, elastic agents
        r"hang (?:is |was )?detected|[Dd]etected (?:a )?hang|not get (?:subsequent|initial) heartbeat|"
        r"no heartbeat|"
        r"failed to pass monitoredBarrier|Timed out waiting \d+ms for|DataLoader timed out after",
    ),
    # NCCL's watchdog of the ranks that are left, too.
    cause(
        F.HANG,
        "a process did not answer",
        r"watchdog got stuck|communicator was aborted on rank|"
        r"Watchdog caught collective operation timeout|[Ww]atchdog .*timed? ?out|"
        r"Timeout\(ms\)=\d+\) ran for \d+ milliseconds|[Cc]ollective (?:operation )?time(?:d )?out|"
        r"[Hh]eartbeat monitor timed out|operations have failed or timed out|Timeout at NCCL work|"
        r"The wait execution of the Notify register times? out|EI0002|HCCL.*(?:notify|heartbeat).*time|"
        r"timed out waiting for (?:the )?(?:collective|barrier|all_?reduce)",
        weight=Weight.WEAK,
    ),
    cause(
        F.NETWORK,
        "the port is taken, try again",
        r"failed to bind to|EADDRINUSE|[Pp]ort \d+ is (?:already )?(?:in use|taken|occupied)|already bound|"
        r"Required ports are in use|port .*(?:already in use|has been bound)|EI0019|EJ0003",
    ),
    cause(
        F.NETWORK,
        "the processes did not meet",
        r"DistStoreError|Rendezvous\w+Error|waiting for clients|clients joined|"
        r"client socket has (?:failed|timed)|"
        r"wait timeout after \d+ms|[Ss]ocket [Tt]imeout|connectFullMesh failed|connect\(\) timed out|"
        r"IPv\d network addresses of .* cannot be retrieved|gai error|no socket interface found|"
        r"[Nn]o (?:usable )?(?:listening )?interface found|[Uu]nable to find address for|"
        r"HcclGetRootInfo|Getting socket times out|EI0006|EI0004|EI0015|"
        r"sock(?:et)? connect\w* time(?:d )?out|"
        r"(?:socket(?:Start|Poll|Finalize)?Connect|SocketPollConnect).*(?:failed|returned|exceeded)|"
        r"[Cc]onnect to \S+ (?:failed|returned)|Call to connect (?:returned|timed)|"
        r"could not resolve hostname|Could not resolve hostname|ssh: connect to host|"
        r"Host key verification failed|"
        r"makeDeviceForHostname|getaddrinfo.*(?:master|rank|store)|"
        r"(?:TCPStore|c10d|rendezvous|Rendezvous|store).*(?:timed? ?out|[Tt]imeout|not reachable|"
        r"unreachable|has failed)|"
        r"(?:MASTER_ADDR|master_addr|master) .*(?:resolve|unreachable|reach)|"
        r"lost keep-?alive|node .* has (?:been removed|left) .*rendezvous|failed to connect to .*store|"
        r"unable to find any relevant network interfaces",
    ),
    cause(
        F.NODE,
        "",
        r"IBV_WC_|ibv_(?:modify_qp|reg_mr|create_\w+|open_device|post_\w+|poll_cq\(\))\S* (?:failed|"
        r"returned)|Got completion .*(?:error|status)|"
        r"NET/IB ?: .*(?:async fatal|[Uu]nable to|[Ff]atal|CQE with error|error)|local catastrophic|"
        r"UCX +ERROR|ibv_\w+\(.*\) failed|[Tt]ransport retry count(?:er)? exceeded|RDMA.*(?:error|fail)|"
        r"NVLS?.*(?:bind|multicast).*(?:fail|error)|No transport found for rank|failed to peer with device",
    ),
    LOST,
    # The result alone: other lines of it have been looked at by now.
    cause(
        F.NODE,
        "",
        r"unhandled system error|ncclSystemError|ncclInternalError|ncclUnhandledCudaError|"
        r"unhandled cuda error|"
        r"internal error - please report this issue to the NCCL",
        weight=Weight.WEAK,
    ),
)
