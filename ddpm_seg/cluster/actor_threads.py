"""The threads of a network that lives in a Ray actor."""

from __future__ import annotations


class ActorThreads:
    """Make one where the actor is constructed, and call `take` wherever it is called.

    Ray calls an actor from another thread than it constructs in, and each has an OpenMP pool of its own. With two pools
    there are more threads than CPUs, and OpenMP lets them sleep in between: 1.4 times slower. So the constructor's
    thread gets a pool of one.
    """

    def __init__(self, threads: int) -> None:
        import torch  # seconds, which the stages that only read and write need not spend

        torch.set_num_threads(1)
        self._threads = threads

    def take(self) -> None:
        """Gives the calling thread all of the actor's threads."""
        import torch

        torch.set_num_threads(self._threads)
