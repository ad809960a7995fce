"""Fixtures of several test files."""

from slurm_support import cluster, lab, on_slurm
from support import trivial

__all__ = ["cluster", "lab", "on_slurm", "trivial"]
