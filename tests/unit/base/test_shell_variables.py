"""Variables of a shell that pass, in Python and in bash."""

from __future__ import annotations

import re
import subprocess

import pytest

from ddqjobs.base import shell_variables
from tests.support.hostile import CLEAN, HOSTILE
from tests.support.paths import ROOT


def bash(text: str, variables: dict[str, str]) -> dict[str, str]:
    """Return the variables after shell text, as a program started then sees them."""
    script = f"set -euo pipefail\n{text}\nexec env -0"
    done = subprocess.run(["/bin/bash", "-c", script], env=variables, capture_output=True, check=True)
    assert done.stderr == b""
    pairs = (entry.partition("=") for entry in done.stdout.decode().split("\0") if entry)
    return {name: value for name, _, value in pairs if name not in ("_", "PWD", "SHLVL")}


def test_a_hostile_shell_passes_what_a_clean_one_does() -> None:
    assert len(HOSTILE) >= 60
    clean = shell_variables.inherited(CLEAN)
    assert clean == CLEAN
    assert shell_variables.inherited({**CLEAN, **HOSTILE}) == clean


def test_a_script_unsets_what_reached_it_without_being_asked() -> None:
    of_node = {name for kind in shell_variables.KINDS if kind.node for name in kind.names}
    prefixes = tuple(name.rstrip("*") for name in of_node)
    reached = {name: value for name, value in HOSTILE.items() if not name.startswith(prefixes)}
    reached.pop("LD_PRELOAD")  # the loader's words would be on stderr
    assert bash(shell_variables.unset_shell(), {**CLEAN, **reached, "PATH": CLEAN["PATH"]}) == CLEAN
    assert bash(shell_variables.unset_shell(), CLEAN) == CLEAN


def test_what_the_site_exports_passes_but_for_paths_environments_and_ranks() -> None:
    site = {
        "CUDA_HOME": "/cuda",
        "NCCL_ALGO": "Ring",
        "LD_LIBRARY_PATH": "/cuda/lib",
        "OMP_PROC_BIND": "true",
    }
    never = {
        "PYTHONPATH": "/poison",
        "PYTHONHOME": "/x",
        "VIRTUAL_ENV": "/v",
        "CONDA_PREFIX": "/c",
        "RANK": "3",
    }
    assert shell_variables.after_modules({**CLEAN, **site, **never}) == {**CLEAN, **site}
    assert bash(shell_variables.unset_site(), {**CLEAN, **site, **never}) == {
        **CLEAN,
        **site,
        "PYTHONNOUSERSITE": "1",
    }


@pytest.mark.parametrize("function", ["python", "python3", "srun"])
def test_functions_that_stand_for_commands_stay_behind_but_module(function: str) -> None:
    functions = {"BASH_FUNC_module%%": "() { :; }", f"BASH_FUNC_{function}%%": "() { false; }"}
    assert set(shell_variables.inherited(functions)) == {"BASH_FUNC_module%%"}


def test_a_scheduler_s_client_keeps_its_libraries() -> None:
    passed = shell_variables.of_client({"LD_LIBRARY_PATH": "/slurm/lib", "LD_PRELOAD": "/x.so", "A": "b"})
    assert passed == {"LD_LIBRARY_PATH": "/slurm/lib", "A": "b"}


def test_the_documentation_has_the_list() -> None:
    text = (ROOT / "docs/reference/job-contract.md").read_text()
    title = "Which variables of the submitting shell reach a job"
    section = text.partition(f"\n## {title}")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+`) \| ([^|]+) \|$", section, re.M)
    policies = {True: "pass", False: "never"}
    assert rows == [
        (
            kind.title,
            " ".join(f"`{name}`" for name in kind.names),
            "set on the node; never taken from the shell" if kind.node else policies[kind.site],
        )
        for kind in shell_variables.KINDS
    ]


def test_values_of_what_is_left_out_are_kept_back_but_for_python_s_paths() -> None:
    text = f'{shell_variables.unset_site()}\nexport SAID="$left_out"'
    never = {
        "PYTHONPATH": "/a b",
        "PYTHONHOME": "/x",
        "PYTHONNOUSERSITE": "1",
        "PIPENV_PYPI_MIRROR": "https://me:pw@host/=",
        "RANK": "3",
    }
    output = bash(text, {**CLEAN, **never})["SAID"]
    assert output == " PYTHONHOME=/x PYTHONPATH=/a b PIPENV_PYPI_MIRROR RANK"
