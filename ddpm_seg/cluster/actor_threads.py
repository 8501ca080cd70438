"""Sets the number of CPU threads of a network in a Ray actor."""

from __future__ import annotations


class ActorThreads:
    """Construct this in the actor's constructor, and call `take` at the start of each of its calls.

    Ray runs an actor's constructor and its calls in different threads, each with an OpenMP pool of its own. Two full
    pools have more threads than there are CPUs, which was 1.4 times slower, so the constructor's thread gets only one.
    """

    def __init__(self, threads: int) -> None:
        import torch  # takes seconds, which stages that only read and write save

        torch.set_num_threads(1)
        self._threads = threads

    def take(self) -> None:
        """Gives the calling thread's pool all of the actor's threads."""
        import torch

        torch.set_num_threads(self._threads)
