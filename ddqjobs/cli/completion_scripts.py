"""The scripts that a shell sources to complete words, made to show the words alone."""

from __future__ import annotations

import os
import sys

_OPTIONS = {"--install-completion", "--show-completion"}
_ENDS = {  # of a call in Typer's script
    "bash": (("$1 )", "$1 2>/dev/null )"),),
    "zsh": (("%(prog_name)s)", "%(prog_name)s 2>/dev/null)"),),
    "fish": (
        ('%(prog_name)s)"', '%(prog_name)s 2>/dev/null)"'),
        ('%(prog_name)s"', '%(prog_name)s 2>/dev/null"'),
    ),
}


def wanted() -> bool:
    """Return whether this process is to print or install such a script."""
    return os.environ.get("_DDQJOBS_COMPLETE", "").startswith("source_") or not _OPTIONS.isdisjoint(sys.argv)


def quieten() -> None:
    """Drop what a completion prints beside its words: Ctrl-C while Python itself starts, before any code of a
    program can hear it, leaves a traceback in the middle of the line."""
    from typer import _completion_classes, _completion_shared

    classes = {
        "bash": _completion_classes.BashComplete,
        "zsh": _completion_classes.ZshComplete,
        "fish": _completion_classes.FishComplete,
    }
    for shell, ends in _ENDS.items():
        script = _completion_shared._completion_scripts[shell]
        for end, quiet in ends:
            script = script.replace(end, quiet)
        _completion_shared._completion_scripts[shell] = classes[shell].source_template = script
