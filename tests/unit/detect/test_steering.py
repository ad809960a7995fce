"""The record of an attempt's start has every variable that steers it."""

from __future__ import annotations

from ddqjobs.base.shell_variables import KINDS
from ddqjobs.detect.job import steering

# They steer the script's bash only, or say at length what LOADEDMODULES says.
LEFT_OUT = {
    "_ModuleTable*", "__LMOD_*", "__MODULES_*",
    "CDPATH", "GLOBIGNORE", "EXECIGNORE", "POSIXLY_CORRECT", "BASH_COMPAT",
    "SHELLOPTS", "BASHOPTS", "BASH_XTRACEFD", "BASH_FUNC_*",
}  # fmt: skip


def test_what_scripts_unset_is_recorded_where_the_site_exports_it() -> None:
    names = {name for kind in KINDS for name in kind.names}
    assert names > LEFT_OUT
    exported = {name.replace("*", "X"): "1" for name in names}
    missing = set(exported) - set(steering.recorded(exported))
    assert missing == {name.replace("*", "X") for name in LEFT_OUT}


def test_of_what_may_be_secret_the_name_is_recorded() -> None:
    variables = {
        "DDQJOBS_SECRETS": "TORCH_KEY OTHER",
        "TORCH_KEY": "k",
        "APPTAINERENV_A": "a",
        "OMP_NUM_THREADS": "1",
    }
    expected = {"APPTAINERENV_A": "***", "OMP_NUM_THREADS": "1", "TORCH_KEY": "***"}
    assert steering.recorded(variables) == expected
