"""Send what a channel has not taken yet: a short-lived process of its own, so that a server that hangs delays
nobody. What it sends, and where, stands in ``$DDQJOBS_NOTIFY``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ddqjobs.base.frozen import Frozen
from ddqjobs.base.secrets import masked
from ddqjobs.base.units import seconds
from ddqjobs.notify.outbox import Delivery, Event, Outbox
from ddqjobs.notify.ways import UndeliveredError, send
from ddqjobs.spec.notify import Channel

VARIABLE = "DDQJOBS_NOTIFY"
_IN_VAIN_S = 86_400.0
_SPARE_S = 5.0  # beyond a channel's own time, for names that must be looked up


class Order(Frozen, frozen=True, kw_only=True):
    """The work of one process: one event at once, or what is pending in a folder."""

    channel: Channel
    name: str
    event: Event | None = None
    folder: str = ""


def main() -> int:
    """Do what is ordered; with one event, print why it was not taken and return 1."""
    order = msgspec.json.decode(os.environ.pop(VARIABLE), type=Order)
    if order.event is None:
        deliver(Outbox(Path(order.folder)), order.name, order.channel)
        return 0
    try:
        send(order.event, order.channel)
    except UndeliveredError as error:
        sys.stdout.write(masked(str(error)))
        return 1
    return 0


def deliver(outbox: Outbox, name: str, channel: Channel) -> None:
    """Send what is pending for a channel, oldest first, until one fails or another process sends. What is
    refused for good, or in vain for a day, is given up. Raise OSError."""
    limit_s = seconds(channel.timeout) + _SPARE_S
    for delivery in outbox.pending([name]):
        if not outbox.begin(delivery, limit_s):
            return
        try:
            with _deadline(outbox, delivery, limit_s):
                send(delivery.event, channel)
        except UndeliveredError as error:
            why = masked(str(error))
            outbox.failed(delivery, why)
            if error.for_good or time.time() - delivery.event.at > _IN_VAIN_S:
                outbox.give_up(delivery, why)
                continue
            return
        outbox.sent(delivery)


@contextlib.contextmanager
def _deadline(outbox: Outbox, delivery: Delivery, limit_s: float) -> Iterator[None]:
    """End this process when the time is over: a server may send a byte now and then, for ever."""

    def end() -> None:
        outbox.failed(delivery, f"not done within {limit_s:.0f} s")
        os._exit(1)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    signal.alarm(int(limit_s) + 10)  # should even the timer not run
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.alarm(0)


if __name__ == "__main__":
    sys.exit(main())
