"""The options and output of ``dsub``, ``djob`` and ``dkill``, in the lab's dialect, with the next fault."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.labs.donau.runner import session
from tests.labs.donau.state import CANCELLED, ENDED, Job, State, hosts_of, locked

PAGE = 200
# option of dsub -> what it sets; the value is the next word
BOTH = {"-n": "name", "-A": "account", "-q": "queue", "-R": "resources", "-N": "replicas", "-nn": "nodes",
        "-s": "script", "-d": "description", "-D": "after", "-T": "time", "-p": "priority",
        "-o": "stdout", "-e": "stderr"}  # fmt: skip
DSUB = {
    "old": {**BOTH, "-l": "label", "--job_type": "job_type", "-pn": "on", "-ex": "exclusive"},
    "new": {**BOTH, "--label": "label", "--mpi": "job_type", "-nl": "on", "-jr": "requeue", "--cwd": "cwd"},
}
# option of djob -> how many values follow
ASK = {"-n": 1, "-s": 1, "-u": 1, "-q": 1, "-D": 0}
DJOB = {
    "old": {**ASK, "-CO": 1, "-L": 1, "-T": 1, "-S": 1, "-R": 1, "-x": 0},
    "new": {**ASK, "-l": 0, "-ll": 0},
}
TOKEN = "error: access token does not exist, please execute command dconfig to get token"
CHINESE = "系统繁忙，请稍后再试"


class Said(Exception):  # an answer that ends a command, not an error
    """The output and the exit code of a command."""

    def __init__(self, out: str = "", err: str = "", code: int = 0) -> None:
        self.out, self.err, self.code = out, err, code
        super().__init__(out)


def main(command: str, arguments: Sequence[str]) -> int:
    """Runs a command as the shell would; its exit code."""
    folder = Path(os.environ["DONAULAB"])
    try:
        with locked(folder) as state:
            operation = "cancel" if command == "dkill" or "-T" in arguments else command
            if operation == "cancel" and sys.stdin.read(1):
                raise Said(err="cancelled nothing: please answer y or n", code=1)
            calls = state.data["calls"]
            calls[command] = calls.get(command, 0) + 1
            fault = state.fault(operation)
            if fault == "token":
                raise Said(err=TOKEN, code=1)
            if fault == "chinese":
                raise Said(err=CHINESE, code=1)
            reply = {"dsub": dsub, "djob": djob, "dkill": dkill}[command](state, arguments, fault)
            state.start()
    except Said as early:
        reply, fault = early, ""
    if fault in ("hang", "accept-hang"):
        sys.stdout.flush()
        time.sleep(3600)
    if fault == "late":
        time.sleep(0.4)
    out = reply.out
    if fault in ("silent", "accept-silent"):
        out = ""
    if fault in ("truncated", "accept-truncated"):
        out = out[: len(out) * 2 // 3]
    sys.stdout.write(out)
    sys.stderr.write(reply.err + "\n" if reply.err else "")
    return reply.code


# -- dsub ------------------------------------------------------------------------------------------------


def dsub(state: State, arguments: Sequence[str], fault: str) -> Said:
    """Takes a script in."""
    if list(arguments) == ["--help"]:
        return Said(help_of("dsub", state))
    options = options_of(state, arguments)
    if "script" not in options:
        typed = " ".join(arguments)
        raise Said(err=f'invalid option or param. Unexpected argument "{typed}"', code=1)
    if fault in ("refuse", "hang", "silent"):
        return Said("JOBID      MESSAGE\n-          The queue is closed.\n", code=1)
    job = state.add(job_of(options))
    if fault == "two":
        other = state.data["next"]
        return Said(f"{job} Submit job successfully.\n{other} Submit job successfully.\n")
    if fault == "accept-chinese":
        return Said(f"作业编号   消息\n{job} 作业提交成功\n")
    return Said(f"JOBID      MESSAGE\n{job} Submit job successfully.\n")


def options_of(state: State, arguments: Sequence[str]) -> dict[str, str]:
    """Return the options of the command line and of the script's lines; the command line comes first."""
    known = DSUB[state.data["generation"]]
    options = parsed(arguments, known)
    script = Path(options.get("script", "/"))
    if script.is_file():
        for line in script.read_text(errors="replace").splitlines():
            if line.startswith("#DSUB "):
                options = {**parsed(shlex.split(line[6:]), known), **options}
    return options


def parsed(arguments: Sequence[str], known: dict[str, str]) -> dict[str, str]:
    """Options and their values; anything else is refused as Donau does."""
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word not in known or not rest:
            raise Said(err=f'invalid option or param. Unexpected argument "{word}"', code=1)
        options[known[word]] = rest.pop(0)
    return options


def job_of(options: dict[str, str]) -> Job:
    """A job as the state keeps it. Raises Said for values that cannot be."""
    limit = options.get("time", "0")
    if not limit.isdigit() or int(limit) > 31536000 or not options.get("replicas", "1").isdigit():
        raise Said("JOBID      MESSAGE\n-          invalid value.\n", code=1)
    after = [wait.split("=") for wait in options.get("after", "").split(";") if wait]
    return {
        "name": options.get("name", ""),
        "script": options["script"],
        "replicas": int(options.get("replicas", "1")),
        "cosched": options.get("job_type", "").startswith("cosched"),
        "time": int(limit),
        "stdout": options.get("stdout", ""),
        "stderr": options.get("stderr", ""),
        "requeue": options.get("requeue", ""),
        "on": options.get("on", ""),
        "after": after,
        "cwd": options.get("cwd") or str(Path.cwd()),
    }


# -- djob ------------------------------------------------------------------------------------------------


def djob(state: State, arguments: Sequence[str], fault: str) -> Said:
    """Lists jobs, or in the old generation cancels, suspends and resumes one."""
    if list(arguments) == ["--help"]:
        return Said(help_of("djob", state))
    known = DJOB[state.data["generation"]]
    options: dict[str, str] = {}
    ids: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in known:
            options[word] = rest.pop(0) if known[word] and rest else ""
        elif re.fullmatch(r"\d+(\.\d+)?", word):
            ids.append(word)
        else:
            raise Said(err=f'invalid option or param. Unexpected argument "{word}"', code=1)
    for option, action in (("-T", cancel), ("-S", suspend), ("-R", resume)):
        if option in options:
            return action(state, options[option], fault)
    if "-L" in options or "-ll" in options:
        number = (options.get("-L") or "".join(ids)).partition(".")[0]
        return details(state, number, fault)
    return listing(state, chosen(state, options, ids, fault), options.get("-CO", ""), fault)


def chosen(state: State, options: dict[str, str], ids: Sequence[str], fault: str) -> list[Job]:
    """The jobs that a list is about."""
    old = state.data["generation"] == "old"
    jobs = [j for j in state.jobs.values() if not ids or j["id"] in ids]
    jobs = [j for j in jobs if options.get("-n", "") in j["name"]]
    if "-D" in options:
        jobs = [j for j in jobs if j["state"] in ENDED]
    elif not (ids and old):
        jobs = [j for j in jobs if j["state"] not in ENDED]
    if fault == "lose":
        jobs = []
    if fault == "partial":
        jobs = jobs[: len(jobs) // 2]
    return jobs[:PAGE]


def listing(state: State, jobs: Sequence[Job], columns: str, fault: str) -> Said:
    """A header and rows, left-aligned; some cells are empty, some have spaces."""
    if not jobs:
        return Said("no matches\n") if state.data["generation"] == "old" else Said(err="no matches", code=1)
    old = state.data["generation"] == "old"
    rows = [cells(state, job, fault) for job in jobs]
    names = columns.split() or (
        ["JOB_ID", "JOB_NAME", "USER", "JOB_STATE", "SUBMIT_TIME", "EXEC_NODES"]
        if old
        else ["JOB_ID", "NAME", "STATE", "QUEUE", "START_TIME", "EXEC_NODES"]
    )
    if fault == "columns":
        names = ["PRIO", *reversed(names), "EXTRA"]
    renamed = {"JOB_STATE": "JOB_STATUS", "STATE": "STATUS"} if fault == "renamed" else {}
    table = [[renamed.get(n, n) for n in names], *([row.get(n, "") for n in names] for row in rows)]
    widths = [max(len(line[n]) for line in table) + 2 for n in range(len(names))]
    lines = ["".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in table]
    return Said(("提示：令牌将于三天后到期\n" if fault == "notice" else "") + "\n".join(lines) + "\n")


def cells(state: State, job: Job, fault: str) -> dict[str, str]:
    """Return all cells that a job's row may show, by column."""
    word = shown(job, fault)
    host = hosts_of(job, state.data)[0]
    return {
        "JOB_ID": job["id"],
        "JOB_NAME": job["name"],
        "NAME": job["name"],
        "USER": "somebody",
        "QUEUE": "root.default",
        "JOB_STATE": word,
        "STATE": word,
        "SUBMIT_TIME": "2026/01/01 10:00:00",
        "START_TIME": "2026/01/01 10:00:00" if job["starts"] else "",
        "EXEC_NODES": host if word == "RUNNING" else "",
        "EXIT_CODE": "" if job["exit"] is None else str(job["exit"]),
        "EXIT_MESSAGE": "cancelled by user" if job["exit"] == CANCELLED else "",
        "PRIO": "4999",
        "EXTRA": "FAILED",  # a word that a careless reader would take for the state
    }


def shown(job: Job, fault: str) -> str:
    """The state that a list shows."""
    word = str(job["state"])
    if fault == "lag":
        return {"SUCCEEDED": "RUNNING", "FAILED": "RUNNING", "RUNNING": "PENDING"}.get(word, word)
    return {"unknown": "ZOMBIFIED", "unknown-chinese": "运行中"}.get(fault, word)


def details(state: State, number: str, fault: str) -> Said:
    """``key value`` lines of one job."""
    job = state.jobs.get(number)
    if job is None or fault == "lose":
        raise Said(err=f"{number} does not exist", code=1)
    word, code = shown(job, fault), job["exit"]
    if state.data["generation"] == "old":
        return Said(f"TASK_ID   {number}.0\nSTATE     {word}\nEXIT_CODE {'' if code is None else code}\n")
    lines = [f"jobId {number}", f"jobName {job['name']}", f"state {word}"]
    if code is not None:
        lines += [f"jobExitCode {code}", "systemExitCode 0"]
    return Said("\n".join(lines) + "\n")


# -- ending, suspending ----------------------------------------------------------------------------------


def dkill(state: State, arguments: Sequence[str], fault: str) -> Said:
    """Cancels jobs; the old generation has no such command."""
    if state.data["generation"] == "old":
        raise Said(err="dkill: command not found", code=127)
    if list(arguments) == ["--help"]:
        return Said("usage: dkill JOB...\n")
    for number in arguments:
        reply = cancel(state, number, fault)
    return reply


def cancel(state: State, number: str, fault: str) -> Said:
    """Ends a job: TERM, then KILL."""
    job = state.jobs.get(number)
    if job is None:
        raise Said(err=f"{number} does not exist", code=1)
    if fault in ("ignore", "hang"):
        return Said(f"{number} kill job successfully\n")
    if job["state"] in ("PENDING", "WAITING"):
        job.update(state="FAILED", exit=CANCELLED, cancelled=True)
    elif job["state"] not in ENDED:
        job["cancelled"] = True
        signal_runner(job, signal.SIGTERM)
    return Said(f"{number} kill job successfully\n")


def suspend(state: State, number: str, fault: str, word: str = "STOPPED") -> Said:
    """Stops a running job's processes."""
    job = state.jobs[number]
    if job["state"] in ("RUNNING", "PENDING", "WAITING"):
        if job["state"] == "RUNNING":
            signal_replicas(job, signal.SIGSTOP)
        job["state"] = word
    return Said(f"{number} suspended\n")


def resume(state: State, number: str, fault: str) -> Said:
    """Lets them go on."""
    job = state.jobs[number]
    if job["state"] in ("STOPPED", "SSTOPPED"):
        job["state"] = "RUNNING" if job["runner"] else "PENDING"
        signal_replicas(job, signal.SIGCONT)
    return Said(f"{number} resumed\n")


def signal_runner(job: Job, number: int) -> None:
    """Tells the process that runs a job."""
    if job["runner"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(job["runner"], number)


def signal_replicas(job: Job, number: int) -> None:
    """Signals all processes that a job has started."""
    for child in children(job["runner"]) if job["runner"] else ():
        for pid in session(child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                pids.append(int(entry.name))
    return pids


def help_of(command: str, state: State) -> str:
    """Help as far as it matters: the options, one a line."""
    generation = state.data["generation"]
    options = DSUB[generation] if command == "dsub" else DJOB[generation]
    lines = [f"  {option}   see the manual" for option in options]
    return f"usage: {command} [options]\nscripts: lines that begin with #DSUB\n" + "\n".join(lines) + "\n"
