"""Tell what the output of a failed step of a build means, and the remedy. Pure.

The patterns are the words of the programs themselves (uv, pip, git, gcc, nvcc, ninja, torch, the dynamic
loader, `module`); outputs to which they were fitted are in tests/recorded/build. docs/how-to/environments.md
lists the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """A failure that is known: its name, what it means, what to do, and the line that says so."""

    name: str
    meaning: str
    remedy: str
    line: str = ""

    def __str__(self) -> str:
        return f"{self.meaning}: {self.remedy}"


# The first that fits is the answer, so causes come before what follows from them: a full disk breaks
# archives, an index that cannot be reached has no package.
_KNOWN: tuple[tuple[str, Remedy], ...] = (
    (
        # uv unpacks into .tmpXXXXXX of its cache and moves what is whole into its folders *-v0. Our own
        # cache, .uv-cache beside the environments, is on their disk.
        r"Failed to initialize cache at (?![^\n]*/\.uv-cache\b)[^\n]*\n[^\n]*(?:os error 28|os error 122)|"
        r"failed to write to file `(?![^`\n]*/\.uv-cache/)[^`\n]*/(?:\.tmp\w{6}|[a-z]+-v\d+)/"
        r"[^\n]*(?:os error 28|os error 122)",
        Remedy(
            "cache-full",
            "the disk of uv's cache is full",
            "set UV_CACHE_DIR to a folder with room, or unset it: the cache is then beside the environments",
        ),
    ),
    (
        r"No space left on device|os error 28\b|Disk quota exceeded",
        Remedy(
            "disk-full",
            "the disk is full",
            "free space, or name another folder as `environments` in the site file",
        ),
    ),
    (
        r"fatal error: Killed signal terminated program|died due to signal 9|"
        r"virtual memory exhausted|out of memory allocating|MemoryError|Cannot allocate memory",
        Remedy(
            "out-of-memory",
            "the compiler or the step ran out of memory",
            "compile fewer files at once (MAX_JOBS of the step), or on a node with more memory",
        ),
    ),
    (
        r"unsupported GNU version! gcc versions later than",
        Remedy(
            "gcc-too-new",
            "gcc is too new for this CUDA",
            "load an older gcc (`modules` of the environment; the line names the newest that goes)",
        ),
    ),
    (
        r"CUDA_HOME environment variable is not set|nvcc not found at|"
        r"nvcc: (?:command )?not found|No such file or directory: '[^']*nvcc'",
        Remedy(
            "no-nvcc",
            "there is no CUDA compiler",
            "load a CUDA module and set CUDA_HOME to its folder, or build where nvcc is (--on-node)",
        ),
    ),
    (
        r"The detected CUDA version .* mismatches the version that was used to compile",
        Remedy(
            "cuda-mismatch",
            "nvcc is of another CUDA than torch was built with",
            "load the CUDA module of torch's version (`modules` of the environment)",
        ),
    ),
    (
        r"nvcc fatal\s*: Unsupported gpu architecture",
        Remedy(
            "gpu-architecture",
            "this nvcc does not know one of the GPU architectures asked for",
            "correct TORCH_CUDA_ARCH_LIST of the step, or load a CUDA module that knows it",
        ),
    ),
    (
        r"(?:\b(?:gcc|g\+\+|cc|c\+\+): (?:command )?not found)|"
        r"command '[^']*(?:gcc|g\+\+|cc|c\+\+)' failed: No such file|"
        r"No such file or directory: '[^']*(?:gcc|g\+\+|c\+\+)'",
        Remedy("no-compiler", "there is no C++ compiler", "load a gcc module, or install g++"),
    ),
    (
        r"fatal error: Python\.h: No such file",
        Remedy(
            "no-python-headers",
            "Python's headers are missing",
            "install them (python3-dev), or use a Python that brings them (`interpreter: {managed: true}`)",
        ),
    ),
    (
        r"No module named '?pkg_resources",
        Remedy(
            "pkg-resources",
            "setuptools has had no pkg_resources since version 81",
            "pin setuptools==80.9.0 in the requirements, then: ddqjobs env lock",
        ),
    ),
    (
        r"FormatCode\(\) got an unexpected keyword argument 'verify'",
        Remedy(
            "yapf",
            "yapf is too new for this mmcv or mmengine",
            "pin yapf==0.40.1 in the requirements, then: ddqjobs env lock",
        ),
    ),
    (
        r"undefined symbol",
        Remedy(
            "undefined-symbol",
            "a compiled package was made for another torch (mmcv's and torch's binary interfaces differ)",
            "build again from the lock, with mmcv compiled after torch is installed",
        ),
    ),
    (
        r"GLIBC(?:XX)?_[0-9.]+'? not found",
        Remedy(
            "glibc-too-old",
            "this machine's glibc or libstdc++ is too old for a compiled package",
            "lock for the machine's own glibc (`platform`), load a newer gcc module, or use a container",
        ),
    ),
    (
        r"no usable wheels|no wheels with a matching|not compatible with the current platform|"
        r"is not a supported wheel on this platform",
        Remedy(
            "no-wheel",
            "a package has no wheel for this machine (system, processor, glibc, Python); the log names it",
            "lock for its `platform`, build the package `from_source`, or use a container",
        ),
    ),
    (
        r"libGL\.so",
        Remedy("libgl", "OpenCV needs libGL, which this machine lacks", "take opencv-python-headless"),
    ),
    (
        r"no kernel image is available for execution on the device",
        Remedy(
            "no-kernel",
            "torch or mmcv was not compiled for this GPU",
            "add its architecture to TORCH_CUDA_ARCH_LIST and build again, or use another torch",
        ),
    ),
    (
        r"NVIDIA driver on your system is too old|"
        r"CUDA driver version is insufficient for CUDA runtime version",
        Remedy(
            "driver-too-old",
            "the GPU driver is too old for torch's CUDA",
            "use nodes with a newer driver, or a torch for an older CUDA",
        ),
    ),
    (
        r"module: command not found",
        Remedy(
            "no-module-command",
            "this shell has no `module` command",
            "name the file that defines it in the site's `setup`, or enter environments without modules",
        ),
    ),
    (
        r"Unable to locate a modulefile for|The following module\(s\) are unknown",
        Remedy(
            "unknown-module",
            "a module is not on this machine",
            "correct `modules` of the environment: `module avail` lists what there is",
        ),
    ),
    (
        r"Hash mismatch|DO NOT MATCH THE HASHES",
        Remedy(
            "hash",
            "a file is not the one that the lock names (broken, tampered with, or rebuilt upstream)",
            "fetch it again; only if it was rebuilt upstream: ddqjobs env lock",
        ),
    ),
    (
        r"[Cc]ertificate verif|invalid peer certificate|UnknownIssuer|CERTIFICATE_VERIFY|"
        r"failed to verify certificate",
        Remedy(
            "certificate",
            "the server's certificate is not trusted",
            "set SSL_CERT_FILE, or pip's `cert`, to the site's CA file (git: http.sslCAInfo)",
        ),
    ),
    (
        r"error while loading shared libraries: libpython",
        Remedy(
            "no-libpython",
            "that Python finds its own library only with its module, or with a shell's LD_LIBRARY_PATH, "
            "which does not reach builds and jobs",
            "name the module under `modules`, or export the variable in a line of the site's `setup`",
        ),
    ),
    (
        r"python-build-standalone|No interpreter found|Failed to inspect Python interpreter",
        Remedy(
            "no-python",
            "that Python is neither installed nor could it be downloaded",
            "install it, or load its module (`modules` of the environment)",
        ),
    ),
    (
        r"reference is not a tree|not our ref [0-9a-f]{40}|couldn't find remote ref|"
        r"Remote branch .* not found|does not look like a v2 or v3 bundle file",
        Remedy(
            "no-revision",
            "the code's repository or bundle does not have that branch or revision, or is broken",
            "correct `trees` of the environment, or collect the bundle again: ddqjobs env fetch",
        ),
    ),
    (
        r"Failed to extract archive|[Ii]nvalid [Zz]ip|invalid package format|Failed to read from zip file|"
        r"Wheel '[^']*' located at .* is invalid",
        Remedy(
            "broken-wheel",
            "a wheel is broken",
            "delete it if it lies in a wheel folder, then run the same command again",
        ),
    ),
    (
        r"end of file before message length reached|"
        r"error sending request|dns error|error resolving DNS|[Cc]onnection refused|[Rr]ead timed out|"
        r"operation timed out|Failed to fetch|HTTP status (?:server|client) error|Could not resolve host|"
        r"Failed to connect to|Failed to establish a new connection|Name or service not known",
        Remedy(
            "unreachable",
            "a package index or code server cannot be reached",
            "check the network, the proxy and the index settings of pip or uv, then run the same command "
            "again (what was downloaded is kept)",
        ),
    ),
    (
        r"No solution found|no version of \S+|Because \S+ was not found|No matching distribution found",
        Remedy(
            "no-package",
            "a package is in none of the configured indexes and wheel folders; the log names it",
            "add one that has it, or correct the requirements (pip says the same of an index that failed)",
        ),
    ),
    (
        r"Fatal Python error: (?:Segmentation fault|Bus error|Illegal instruction|Aborted|Floating)",
        Remedy(
            "crash",
            "a compiled package crashed",
            "the log names the line; build on the kind of node that runs it (--on-node), with the compiler "
            "that its torch was made for",
        ),
    ),
)
# Where the programs asked, without a user and a password in the address.
_ASKED = re.compile(
    r"(?:Failed to fetch: `?|Looking in indexes: |unable to access '|for url \()"
    r"(https?://)(?:[^\s/@]*@)?([^\s'`,)]+)"
)
_COMPILED = tuple((re.compile(pattern), remedy) for pattern, remedy in _KNOWN)


def recognise(log: str) -> Remedy | None:
    """The known failure that the output of a failed step shows, with the first line that says so."""
    for pattern, remedy in _COMPILED:
        match = pattern.search(log)
        if match is not None:
            line = log[log.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
            return Remedy(remedy.name, remedy.meaning, remedy.remedy, line.strip()[:300])
    return None


def explain(log: str) -> str:
    """Return what a failed step's output means, with the address that could not be reached, and what to do;
    its last line if nobody knows."""
    known = recognise(log)
    asked = _ASKED.search(log) if known is not None and known.name == "unreachable" else None
    if known is not None and asked is not None:
        return f"{known.meaning} ({asked[1]}{asked[2]}): {known.remedy}"
    if known is not None:
        return str(known)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def table() -> tuple[Remedy, ...]:
    """All known failures, in the order in which they are looked for."""
    return tuple(remedy for _, remedy in _KNOWN)
