"""Fixtures of several test files."""

import signal

from support import trivial

__all__ = ["trivial"]

# A shell starts background commands with Ctrl-C ignored, and whatever we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
