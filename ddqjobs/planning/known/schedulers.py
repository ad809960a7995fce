"""Lines that schedulers, their launchers and the kernel write into a job's output.

Programs: slurmstepd, srun and slurm_errno.c of Slurm (23 to 26), LSF's TERM_ reasons, PBS's and Kubernetes'
words, Linux (mm/oom_kill.c, drivers).
"""

from __future__ import annotations

from ddqjobs.planning.known.cause import Cause, Weight, cause, phrases
from ddqjobs.spec.model import FailureClass as F

# Slurm cannot start a step for reasons of what the job asks for: the same on every node.
_ASKED_WRONGLY = phrases("""
    More processors requested than permitted
    Requested node configuration is not available
    Invalid generic resource (gres) specification
    Insufficient GRES available in allocation
    Memory required by task is not available
    Task count specification invalid
    Node count specification invalid
    CPU count specification invalid
    Task distribution specification invalid
    Unable to satisfy cpu bind request
    Unable to layout tasks on given cpus
    CPU binding outside of job step allocation
    Invalid MPI plugin name
    Cannot request more threads per core
    Invalid feature specification
    There are not enough slots available
    unrecognized option
    Invalid partition name specified
    Invalid account or account/partition
    """)

SCHEDULERS: tuple[Cause, ...] = (
    cause(
        F.PREEMPTED,
        "preempted",
        r"DUE TO PREEMPTION|DUE TO JOB REQUEUE|TERM_PREEMPT|\bPreempted by|preemption notice|job preempted",
        r"spot (?:instance )?interruption|(?:was|is|has been) preempted",
        weight=Weight.SURE,
    ),
    cause(
        F.NODE,
        "",
        r"DUE TO NODE FAILURE|srun: error: Node failure on|Node fail\w+ (?:on|detected)|NODE_FAIL|"
        r"Job killed due node failure|node .* (?:is not responding|went down)|DUE TO JOB NOT (?:RUNNING|"
        r"ENDING)",
        weight=Weight.SURE,
    ),
    cause(
        F.TIMEOUT,
        "",
        r"DUE TO TIME LIMIT|TERM_RUNLIMIT|TERM_CPULIMIT|PBS: job killed: walltime|"
        r"hitting max wall clock limit|"
        r"DeadlineExceeded|walltime (?:limit )?exceeded|exceeded (?:its |the )?(?:wall ?time|time limit|"
        r"run ?limit)|"
        r"killed after reaching LSF run time limit",
        weight=Weight.SURE,
    ),
    cause(
        F.OUT_OF_MEMORY,
        "host memory",
        r"oom[-_ ]kill|OOM[ -]?Killed|OOMKilled|task \d+: Out Of Memory|tasks? [\d,-]+: Out Of Memory|"
        r"Out of memory: Kill(?:ed)? process|Memory cgroup out of memory|invoked oom-killer|"
        r"OUT_OF_MEMORY\b(?!\S)|"
        r"[Ee]xceeded (?:job |step |virtual )*memory limit|TERM_MEMLIMIT|TERM_SWAP|"
        r"PBS: job killed: (?:v|p)?mem|reaching LSF memory usage limit|\bOOM-kill",
        weight=Weight.SURE,
    ),
    cause(
        F.PREEMPTED,
        "ended from outside",
        r"\*\*\* JOB \d\S* ON .*CANCELLED AT|TERM_OWNER|TERM_ADMIN|TERM_FORCE_ADMIN|TERM_REQUEUE|"
        r"Job .*\bwas evicted|"
        r"(?:[Pp]od|[Cc]ontainer|node) .*(?:was evicted|\bEvicted)|\bEvicted\b|qdel|killed by owner",
        weight=Weight.SURE,
    ),
    cause(
        F.CODE,
        "Slurm cannot give what the step asks for",
        rf"(?:srun|sbatch|salloc|mpirun|slurm\w*)\b.*(?:{_ASKED_WRONGLY})|"
        rf"{phrases('There are not enough slots available')}",
    ),
    cause(
        F.ENVIRONMENT,
        "",
        r"(?:slurmstepd|srun): error:.*execve\(\)|[Ee]xec(?:ve)? (?:of )?\S* ?failed: No such file|"
        r"pyxis: .*(?:failed to import|couldn't start container|container start failed|imag)|"
        r"spank: .*(?:plugin|undefined)|mpi/pmix?\S*: (?:plugin|can't load|.*not found)|"
        r"not built with SLURM's PMI|PMI2?_Init failed|psec_base_open failed|PMIX ERROR: NOT-FOUND|"
        r"requested component was not found|"
        r"couldn't find the specified plugin name for mpi|[Cc]annot create context for mpi",
    ),
    cause(
        F.NODE,
        "Slurm could not start a step there",
        r"[Tt]ask launch (?:for \S+ )?failed|[Aa]pplication launch failed|timeout waiting for task launch|"
        r"Unable to create step|[Uu]nable to confirm allocation|[Ee]rror generating job credential|"
        r"[Ii]nvalid job credential|Job credential (?:expired|revoked|replayed)|"
        r"[Uu]nable to mkdir cgroup|cgroup.*(?:[Uu]nable|[Ff]ailed|[Cc]ould ?n[o']t|error)|"
        r"slurmstepd: error: .*[Pp]rolog|[Pp]rolog (?:failed|error)|[Ee]pilog failed|"
        r"launch failed requeued held|"
        r"io error with slurmstepd|slurm_receive_msgs?\b.*|Unable to contact slurm controller|"
        r"unknown userid|Couldn't determine user account|"
        r"Required node not available|Slurmd could not|Spank plugin failure|Zero Bytes were transmitted|"
        r"Communication connection failure|Kill task failed|authentication credential|munge\w* .*(?:fail|"
        r"error|decode)|"
        r"[Uu]nable to (?:create|make) (?:TMPDIR|tmp)|StepId=\S+ .*Communication|"
        r"user env(?:ironment)? retrieval failed|"
        r"ORTE (?:was unable|has lost|does not)|PRTE has lost|lost communication with a (?:remote )?daemon|"
        r"PMIX? ERROR|PMIX_ERROR|PMI2?_Init|PMIx_Init|opal_pmix|[Cc]onnection to (?:proxy|hydra)|"
        r"HYDU_|hydra.*(?:failed|error)",
        weight=Weight.FIRM,
    ),
    # -- the kernel and hardware --------------------------------------------------------------------------
    cause(
        F.STORAGE,
        "a file server did not answer",
        # of a folder that a job starts in, or a program writes: what follows is a consequence
        r"couldn't chdir to .*(?:Stale|timed out|Input/output|endpoint|Communication|is down|No route)|"
        r"nfs: server \S+ not responding|Lustre(?:Error)?: .*|was evicted by|evicted by (?:lustre|MDT|OST|"
        r"\w+-(?:OST|MDT))|"
        r"mmfs\w*: .*(?:unmount|expel|fail|stale)|GPFS.*(?:expel|unmount|panic|fail)|ceph: .*(?:lost|"
        r"timed? ?out|blacklist|blocklist)|"
        r"beegfs.*(?:error|timed? ?out|unreach)",
        weight=Weight.SURE,
    ),
    cause(
        F.NODE,
        "",
        r"\[Hardware Error\]|Machine [Cc]heck|\bmce: |EDAC \S+ .*UE\b|soft lockup|hard LOCKUP|"
        r"task \S+ blocked for more than \d+ seconds|[Bb]uffer I/O error|I/O error, dev|"
        r"nvme\S* .*(?:timeout|reset|error)|"
        r"(?:EXT4|XFS|BTRFS)-?\w*\s?(?:error|\([^)]*\): .*[Cc]orrupt)|AER: .*[Uu]ncorrect|"
        r"mlx\d\w* .*(?:[Ll]ink down|error|fatal)|"
        r"[Ll]ink (?:is )?[Dd]own|port (?:state )?DOWN|temperature above threshold|thermal (?:shutdown|"
        r"trip)|Kernel panic|BUG: unable to handle",
        weight=Weight.FIRM,
    ),
    # -- consequences: of a task that failed, Slurm ends the rest of the step ------------------------------
    cause(
        F.PREEMPTED,
        "ended from outside",
        r"\*\*\* STEP \S+ ON .*CANCELLED AT [^ ]+ \*\*\*|DUE to SIGNAL",
        r"SignalException: Process \d+ got signal: (?:1|10|12|15)\b|Received \S*(?:15|SIGTERM) death signal|"
        r"tasks? [\d,-]+: Terminated|Received SIGTERM|Caught signal (?:SIG)?(?:TERM|USR\d)",
        weight=Weight.LAST,
    ),
)

# Signals that nobody explains, as shells and launchers name them.
SIGNALS: tuple[Cause, ...] = (
    cause(
        F.LIMIT,
        "shared memory (/dev/shm) is full",
        r"\bBus error\b",
        weight=Weight.WEAK,
    ),
    cause(
        F.UNKNOWN,
        "",
        r"(?:^|[:\d]\s+|tasks? [\d,-]+: )(?:Killed|Segmentation fault|Aborted|Floating point exception)\b|"
        r"\(core dumped\)|"
        r"Fatal Python error|double free|corrupted (?:size|double|unsorted|top)|free\(\): invalid|"
        r"malloc\(\): |"
        r"exited on signal \d+|terminated with signal|stack smashing",
        weight=Weight.WEAK,
    ),
)
