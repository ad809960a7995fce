"""Known failures of builds, on the recorded output of the programs that failed."""

from __future__ import annotations

import pytest

from ddqjobs.environments import diagnosis
from ddqjobs.environments.diagnosis import explain, recognise
from tests.support import paths

RECORDED = paths.RECORDED / "build"
# Recorded output -> its failure.
KNOWN = {
    "cuda-mismatch": "cuda-mismatch",
    "gcc-disk-full": "disk-full",
    "gcc-killed": "out-of-memory",
    "gcc-no-memory": "out-of-memory",
    "gcc-too-new": "gcc-too-new",
    "git-broken-bundle": "no-revision",
    "git-certificate": "certificate",
    "git-dead-host": "unreachable",
    "git-disk-full": "disk-full",
    "git-no-branch": "no-revision",
    "git-no-revision": "no-revision",
    "git-no-such-host": "unreachable",
    "glibc-not-found": "glibc-too-old",
    "lmod-unknown": "unknown-module",
    "module-command-missing": "no-module-command",
    "modules-unknown": "unknown-module",
    "ninja-killed": "out-of-memory",
    "no-compiler": "no-compiler",
    "no-nvcc": "no-nvcc",
    "nvcc-killed": "out-of-memory",
    "nvcc-missing-in-cuda-home": "no-nvcc",
    "nvcc-unsupported-arch": "gpu-architecture",
    "pip-503": "no-package",  # pip keeps the server's error to itself
    "pip-broken-wheel": "broken-wheel",
    "pip-certificate": "certificate",
    "pip-dead-index": "unreachable",
    "pip-disk-full": "disk-full",
    "pip-glibc-wheel": "no-wheel",
    "pip-hash": "hash",
    "pip-no-such-host": "unreachable",
    "pip-not-in-index": "no-package",
    "pip-slow": "unreachable",
    "pkg-resources-mmcv-2.1.0": "pkg-resources",
    "undefined-symbol": "undefined-symbol",
    "python-crash": "crash",
    "uv-503": "unreachable",
    "uv-broken-wheel": "broken-wheel",
    "uv-certificate": "certificate",
    "uv-dead-index": "unreachable",
    "uv-cache-full": "cache-full",
    "uv-disk-full": "cache-full",
    "uv-glibc-wheel": "no-wheel",
    "uv-hash": "hash",
    "uv-no-such-host": "unreachable",
    "uv-not-in-index": "no-package",
    "uv-pkg-resources-mmcv-2.1.0": "pkg-resources",
    "uv-python-download": "no-python",
    "uv-slow": "unreachable",
    "yapf-mmcv-1.4.7": "yapf",
    "yapf-mmengine-0.6.0": "yapf",
    "yapf-mmengine-0.7.1": "yapf",
}
# Recorded output -> the address that could not be reached.
ASKED = {
    "git-dead-host": "http://127.0.0.1:9/x.git/",
    "git-no-such-host": "http://no-such-host.invalid/x.git/",
    "pip-dead-index": "http://127.0.0.1:9/simple",
    "pip-no-such-host": "https://no-such-host.invalid/simple",
    "pip-slow": "http://127.0.0.1:8945/simple",
    "uv-503": "http://127.0.0.1:8944/simple/addict/",
    "uv-dead-index": "http://127.0.0.1:9/simple/addict/",
    "uv-no-such-host": "http://no-such-host.invalid/simple/addict/",
    "uv-slow": "http://127.0.0.1:8945/simple/addict/",
}


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text(encoding="utf-8")


def test_every_recording_is_used() -> None:
    assert {path.stem for path in RECORDED.glob("*.txt")} == set(KNOWN)


@pytest.mark.parametrize(("name", "failure"), KNOWN.items())
def test_recorded_failures(name: str, failure: str) -> None:
    text = recorded(name)
    known = recognise(text)
    assert known is not None
    assert known.name == failure
    assert known.line
    assert known.line in text  # one line of it, so there is something to look for
    where = f" ({ASKED[name]})" if name in ASKED else ""
    assert explain(text) == f"{known.meaning}{where}: {known.remedy}"


def test_the_address_is_named_without_its_password() -> None:
    text = recorded("uv-dead-index").replace("http://127", "http://user:pass-word@127")
    assert "(http://127.0.0.1:9/simple/addict/)" in explain(text)
    assert "pass-word" not in explain(text)


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        # What could not be provoked: the programs' own words.
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "no-kernel"),
        ("The NVIDIA driver on your system is too old (found version 11010).", "driver-too-old"),
        ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory", "libgl"),
        ("a.c:1:10: fatal error: Python.h: No such file or directory", "no-python-headers"),
        ("OSError: [Errno 122] Disk quota exceeded: '/home/u/x'", "disk-full"),
        ("error: No interpreter found for Python 3.6 in managed installations", "no-python"),
        (
            "/x/python3: error while loading shared libraries: libpython3.12.so.1.0: cannot open",
            "no-libpython",
        ),
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "no-compiler"),
        ("/bin/sh: 1: /usr/local/cuda/bin/nvcc: not found", "no-nvcc"),
        ("make: nvcc: command not found", "no-nvcc"),
    ],
)
def test_single_lines(line: str, failure: str) -> None:
    known = recognise(f"before\n{line}\nafter\n")
    assert known is not None
    assert (known.name, known.line) == (failure, line)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "building 'mmcv._ext' extension\n[1/180] c++ -MMD -MF build/certificate.o.d -c a.cpp -o a.o\n",
        "Successfully installed certifi-2026.1.1 MarkupSafe-3.0\nwriting /x/no_module.py\n",
        "running build_ext\n/opt/gcc/bin/gcc: warning: unused option\ncopying _ext.so -> mmcv\n",
    ],
)
def test_ordinary_output_is_no_failure(text: str) -> None:
    assert recognise(text) is None


def test_what_nobody_knows_is_told_by_its_last_line() -> None:
    assert explain("one\n  two  \n\n") == "two"
    assert explain("") == "it said nothing"


def test_every_failure_has_a_name_of_its_own_and_a_case() -> None:
    names = [remedy.name for remedy in diagnosis.table()]
    assert len(names) == len(set(names))
    cases = set(KNOWN.values()) | {
        "no-kernel",
        "driver-too-old",
        "libgl",
        "no-python-headers",
        "no-libpython",
    }
    assert cases == set(names)


def test_the_documentation_has_the_whole_table() -> None:
    text = (RECORDED.parents[2] / "docs/how-to/environments.md").read_text(encoding="utf-8")
    rows = [f"| `{known.name}` | {known.meaning} | {known.remedy} |" for known in diagnosis.table()]
    assert [line for line in text.splitlines() if line in rows] == rows
