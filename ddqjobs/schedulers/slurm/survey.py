"""Ask a Slurm cluster what a site file says of it, and write that file: each line with the command that told.
Only looks; nothing is submitted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from ddqjobs.base import process
from ddqjobs.base.errors import MissingError, SchedulerError, nearest
from ddqjobs.base.frozen import Frozen
from ddqjobs.schedulers.slurm.examination import largest_array, settings, words
from ddqjobs.schedulers.slurm.scheduler import environment

_ASK_S = 60.0
_SINFO = ("sinfo", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G")
_CONFIG = ("scontrol", "show", "config")
_LIMITS = "format=Account,Partition,QOS,MaxSubmitJobs"
_QOS = ("sacctmgr", "-nP", "show", "qos", "format=Name,MaxWall,MaxSubmitPU")
_MODULES = ("bash", "-lc", "module -t avail 2>&1")
_WANTED = re.compile(r"(?i)^(?:cuda|gcc|python|cudnn|nccl|apptainer|singularity)(?:toolkit)?/")
_GPU = re.compile(r"gpu(?::([\w.-]*[A-Za-z][\w.-]*))?:(\d+)")
_PLAIN = re.compile(r"[A-Za-z][\w.-]*")
_MEANT = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})  # YAML 1.1 reads them so
_MOST = 12


class Partition(Frozen, frozen=True, kw_only=True):
    """A partition's nodes of one kind."""

    name: str
    default: bool = False
    up: bool = True
    time: str = ""  # longest, as a site file writes it; empty: no limit
    nodes: int = 0
    cpus: int = 0
    memory_mib: int = 0  # sinfo's MB are 2^20 bytes
    gpu_type: str = ""
    gpus: int = 0  # per node


class Account(Frozen, frozen=True, kw_only=True):
    """An account of ours, with what it may use."""

    name: str
    partition: str = ""
    qos: tuple[str, ...] = ()
    jobs: int = 0  # in the queue; 0: no limit


class Facts(Frozen, frozen=True, kw_only=True):
    """All that was learnt. ``silent``: command -> why it did not tell."""

    cluster: str = ""
    version: str = ""
    array_size: int = 1000
    partitions: tuple[Partition, ...] = ()
    accounts: tuple[Account, ...] = ()
    default_account: str = ""
    qos: dict[str, tuple[str, int]] = {}  # noqa: RUF012 - msgspec copies it: longest time, jobs in the queue
    modules: tuple[str, ...] = ()
    silent: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it


def survey(user: str) -> Facts:
    """Ask the cluster. Raise SchedulerError if Slurm itself does not answer."""
    config = settings(_told(_CONFIG))
    silent: dict[str, str] = {}

    def optional(argv: Sequence[str]) -> str:
        done = _run(argv)
        if done.code or done.timed_out:
            silent[argv[0] if argv[0] != "bash" else "module avail"] = words(done)
            return ""
        return done.stdout

    sacctmgr = "none" not in config.get("AccountingStorageType", "none")
    ours = ("sacctmgr", "-nP", "show", "associations", f"user={user}", _LIMITS)
    who = ("sacctmgr", "-nP", "show", "user", user, "format=DefaultAccount")
    return Facts(
        cluster=config.get("ClusterName", ""),
        version=config.get("SLURM_VERSION", ""),
        array_size=largest_array(config),
        partitions=partitions(_told(_SINFO)),
        accounts=accounts(optional(ours)) if sacctmgr else (),
        default_account=optional(who).strip().partition("\n")[0] if sacctmgr else "",
        qos=qualities(optional(_QOS)) if sacctmgr else {},
        modules=modules(optional(_MODULES)),
        silent=silent,
    )


def _told(argv: Sequence[str]) -> str:
    done = _run(argv)
    if done.code or done.timed_out:
        by_hand = "or write the site file by hand (ddqjobs docs how-to/first-day-slurm)"
        raise SchedulerError(f"Slurm cannot be asked: {words(done)}; try again on a login node, {by_hand}")
    return done.stdout


def _run(argv: Sequence[str]) -> process.Completed:
    return process.run(argv, timeout=_ASK_S, env=environment())


# -- what the commands say (pure) ------------------------------------------------------------------------


def partitions(text: str) -> tuple[Partition, ...]:
    """Return the rows of ``sinfo``; a partition has one for each kind of its nodes.

    >>> partitions("gpu*|up|7-00:00:00|4|48|256000|gpu:h100:8(S:0-1)\\n")[0].gpu_type
    'h100'
    """
    listed = []
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) != 7:
            continue
        name, up, time, nodes, cpus, memory, gres = cells
        gpu = _GPU.search(gres)
        listed.append(
            Partition(
                name=name.removesuffix("*"),
                default=name.endswith("*"),
                up=up == "up",
                time=duration(time),
                nodes=_number(nodes),
                cpus=_number(cpus),
                memory_mib=_number(memory),
                gpu_type=(gpu[1] or "") if gpu else "",
                gpus=int(gpu[2]) if gpu else 0,
            )
        )
    return tuple(listed)


def duration(text: str) -> str:
    """Return a time of Slurm's as a site file writes it; empty for none.

    >>> [duration(t) for t in ("7-00:00:00", "1-12:00:00", "10:00", "00:30:00", "infinite", "3:00:00")]
    ['7d', '36h', '10m', '30m', '', '3h']
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if not match:
        return ""
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if total and total % size == 0:
            return f"{total // size}{unit}"
    return f"{total}s" if total else ""


def accounts(text: str) -> tuple[Account, ...]:
    """Return the rows of ``sacctmgr show associations``."""
    rows = (line.split("|") for line in text.splitlines())
    return tuple(
        Account(
            name=row[0], partition=row[1], qos=tuple(filter(None, row[2].split(","))), jobs=_number(row[3])
        )
        for row in rows
        if len(row) == 4 and row[0]
    )


def qualities(text: str) -> dict[str, tuple[str, int]]:
    """Return quality of service -> (longest time, jobs in the queue), each empty or 0 without a limit."""
    rows = (line.split("|") for line in text.splitlines())
    return {row[0]: (duration(row[1]), _number(row[2])) for row in rows if len(row) == 3}


def modules(text: str) -> tuple[str, ...]:
    """Return the modules that environments may want, of what ``module -t avail`` lists."""
    names = (re.sub(r"\((?:default|D|L)[^)]*\)$", "", line.strip()) for line in text.splitlines())
    return tuple(dict.fromkeys(name for name in names if _WANTED.match(name) and " " not in name))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _number(text: str) -> int:
    digits = re.match(r"\d+", text.strip())
    return int(digits[0]) if digits else 0


# -- the site file (pure) --------------------------------------------------------------------------------


def chosen(facts: Facts, named: str = "") -> Partition:
    """Return the partition that a site file describes: the named one, else that with the most GPUs; of equal
    ones the default. Raise MissingError."""
    known = {partition.name for partition in facts.partitions}
    if named and named not in known:
        raise MissingError(
            f"there is no partition {named}{nearest(named, known)}; there are: {', '.join(sorted(known))}"
        )
    some = [
        partition for partition in facts.partitions if (partition.name == named if named else partition.up)
    ] or list(facts.partitions)
    if not some:
        raise MissingError("sinfo shows no partition that you may see")
    return max(
        some, key=lambda partition: (partition.gpus * partition.nodes, partition.default, partition.nodes)
    )


def site_file(name: str, facts: Facts, partition: Partition) -> str:
    """Return the text of a site file."""
    slurm = f"Slurm {facts.version}".strip()
    lines = [
        f"# {slurm}, asked by `ddqjobs site new`; behind each line stands the command that told it.",
        "# Keys behind a # are choices. `ddqjobs schema site KEY` explains one; `ddqjobs doctor` tries all.",
        f"name: {_yaml(name)}",
        f"title: {_yaml(facts.cluster or name)}  # scontrol show config: ClusterName",
        "scheduler: slurm",
        "slurm:",
        f"  partition: {_yaml(partition.name)}  # sinfo: {_described(partition)}",
        *_others(facts, partition),
        *_gpu(facts, partition),
        *_account(facts, partition),
    ]
    if partition.gpus:
        cpus = max(1, partition.cpus // partition.gpus)
        memory = partition.memory_mib * 2**20 // (10**6 * partition.gpus)
        lines += [f"cpus_per_gpu: {cpus}  # sinfo: {partition.cpus} CPUs for {partition.gpus} GPUs"]
        lines += [
            f"memory_mb_per_gpu: {memory}  # sinfo: {partition.memory_mib} MiB a node, less its MemSpecLimit"
        ]
    lines += ["limits:", f"  array_size: {facts.array_size}  # scontrol show config: MaxArraySize less one"]
    lines += [*_limits(facts, partition), "  calls_per_minute: 60  # a guess: be considerate"]
    return "\n".join([*lines, *_modules(facts), *_silent(facts)]) + "\n"


def _described(partition: Partition) -> str:
    gpus = f", {partition.gpus} GPUs {partition.gpu_type}".rstrip() if partition.gpus else ""
    return f"{partition.nodes} nodes of {partition.cpus} CPUs, {partition.memory_mib} MiB{gpus}"


def _others(facts: Facts, partition: Partition) -> Iterator[str]:
    others = [other for other in facts.partitions if other != partition]
    for other in others[:_MOST]:
        longest = f", {other.time} at most" if other.time else ""
        yield f"  # partition: {_yaml(other.name)}  # sinfo: {_described(other)}{longest}"
    if len(others) > _MOST:
        yield f"  # and {len(others) - _MOST} more: sinfo"


def _gpu(facts: Facts, partition: Partition) -> Iterator[str]:
    types = {other.gpu_type for other in facts.partitions if other.name == partition.name and other.gpu_type}
    if partition.gpu_type:
        others = ", ".join(sorted(types - {partition.gpu_type}))
        also = f"; also {others}" if others else ""
        yield f"  gpu_type: {_yaml(partition.gpu_type)}  # sinfo: GRES{also}"


def _account(facts: Facts, partition: Partition) -> Iterator[str]:
    usable = [a for a in facts.accounts if a.partition in ("", partition.name)]
    names = list(dict.fromkeys(account.name for account in usable))
    first = facts.default_account if facts.default_account in names else (names or [""])[0]
    for name in sorted(names, key=lambda name: name != first):
        yield f"  {'' if name == first else '# '}account: {_yaml(name)}  # sacctmgr show associations"
    for name in dict.fromkeys(q for a in usable if a.name == first for q in a.qos):
        longest, jobs = facts.qos.get(name, ("", 0))
        told = [f"{longest} at most"] * bool(longest) + [f"{jobs} jobs"] * bool(jobs)
        yield f"  # qos: {_yaml(name)}  # sacctmgr show qos{': ' + ', '.join(told) if told else ''}"


def _limits(facts: Facts, partition: Partition) -> Iterator[str]:
    limits = [account.jobs for account in facts.accounts if account.jobs]
    allowed = {name for account in facts.accounts for name in account.qos}
    limits += [jobs for name, (_, jobs) in facts.qos.items() if jobs and name in allowed]
    if limits:
        yield f"  jobs_in_queue: {min(limits)}  # sacctmgr: MaxSubmitJobs"
    else:
        yield "  # jobs_in_queue: 500  # no limit was told; ask before you submit thousands"
    if partition.time:
        yield f"  time: {partition.time}  # sinfo: TIMELIMIT"


def _modules(facts: Facts) -> Iterator[str]:
    if facts.modules:
        yield "# modules:  # module avail, those that environments may want"
        yield from (f"#   - {_yaml(name)}" for name in facts.modules[:_MOST])
        if len(facts.modules) > _MOST:
            yield f"#   and {len(facts.modules) - _MOST} more"


def _silent(facts: Facts) -> Iterator[str]:
    for command, why in facts.silent.items():
        yield f"# {command} did not tell: {' '.join(why.split())}"


def _yaml(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text.lower() not in _MEANT else json.dumps(text)
