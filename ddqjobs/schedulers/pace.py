"""Calls per minute, of which a site allows only so many."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class Pace:
    """Lets so many calls through in any minute, of this process."""

    def __init__(
        self,
        per_minute: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._last: deque[float] | None = deque(maxlen=per_minute) if per_minute else None

    def wait(self) -> None:
        """Returns when one more call is allowed."""
        if self._last is None:
            return
        if len(self._last) == self._last.maxlen:
            self._sleep(max(0.0, self._last[0] + 60.0 - self._clock()))
        self._last.append(self._clock())
