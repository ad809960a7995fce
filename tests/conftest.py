"""Fixtures of several test files."""

import signal

from donau_support import donau, on_donau
from environment_support import place
from slurm_support import cluster, lab, on_slurm
from support import trivial

__all__ = ["cluster", "donau", "lab", "on_donau", "on_slurm", "place", "trivial"]

# A shell starts background commands with Ctrl-C ignored, and whatever we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
