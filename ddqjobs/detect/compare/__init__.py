"""Compare two results, each as the module that measures it says."""

from __future__ import annotations


class CannotCompare(ValueError):
    """The inputs cannot be compared; the message is one line."""
