"""Fixtures of several test files."""

from donau_support import donau, on_donau
from support import trivial

__all__ = ["donau", "on_donau", "trivial"]
