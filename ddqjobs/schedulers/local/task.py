"""Stands in for the interpreter of submitit's task: ``task.py -u -m MODULE ARGUMENTS``, without numpy.

submitit loads numpy if it is there, lest unpickling meets it half-loaded. Our launcher has no use for it,
and it would cost every job more time than all the rest of its start.
"""

from __future__ import annotations

import runpy
import sys


def main() -> None:
    """Runs the module as the interpreter would."""
    del sys.path[0]  # this folder: its `queue.py` is not Python's
    module = sys.argv.index("-m") + 1
    name, sys.argv = sys.argv[module], sys.argv[module:]
    sys.modules["numpy"] = None  # type: ignore[assignment]  # import numpy -> ImportError
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
