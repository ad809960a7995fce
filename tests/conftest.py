"""Fixtures of several test files."""

from support import trivial

__all__ = ["trivial"]
