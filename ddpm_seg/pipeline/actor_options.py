"""What may be asked of actors, the same for every job of runs. Without Ray, for which a dry run should not wait."""

from __future__ import annotations


def check_actor_options(num_actors: int | None, gpus_per_actor: float, wait_for_gpus: float) -> None:
    """Raises ValueError, which names the flag."""
    if not 0 < gpus_per_actor <= 1:
        raise ValueError(f"--gpus-per-actor must be over 0 and at most 1, got {gpus_per_actor:g}")
    if not wait_for_gpus >= 0 or (wait_for_gpus and num_actors is None):
        raise ValueError(
            f"--wait-for-gpus {wait_for_gpus:g} is a number of minutes, and needs --num-actors to wait for"
        )
