"""The error for what has no fast form."""

from __future__ import annotations

from ddqjobs.detect.runtime import CannotLoad


class NoFastForm(CannotLoad):
    """A configuration that says ``speed`` has a part without a fast form; the message is one line."""
