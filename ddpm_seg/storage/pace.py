"""How many requests this process sends at once to a bucket or host: fewer when it asks to slow down, then more again.

As TCP does: half as many at each such answer, and one more after as many good answers as there may be requests at
once. The processes of a cluster know nothing of each other, and share what the store can bear all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 64
MOST_OF_A_WEB_SERVER = 8
"""At once, for hosts that a URI names: they may belong to others."""


class Pace:
    """The requests to one bucket or host."""

    def __init__(self, most: int) -> None:
        self.most, self.allowed = most, float(most)
        self._under_way, self._slowed = 0, -1.0
        self._free = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[float]:
        """Waits until another request may be sent, and counts it until the end of the block. Yields its start."""
        with self._free:
            self._free.wait_for(lambda: self._under_way < max(1, int(self.allowed)))
            self._under_way += 1
        try:
            yield time.monotonic()
        finally:
            with self._free:
                self._under_way -= 1
                self._free.notify()

    def slower(self, begun: float) -> None:
        """Notes that the store refused the request that was sent at `begun` because there are too many."""
        with self._free:
            # Requests that were under way when one was refused tell nothing new.
            if begun > self._slowed:
                self.allowed = max(1.0, self.allowed / 2)
                self._slowed = time.monotonic()

    def faster(self) -> None:
        """Notes a good answer."""
        with self._free:
            self.allowed = min(float(self.most), self.allowed + 1 / self.allowed)
            self._free.notify()
