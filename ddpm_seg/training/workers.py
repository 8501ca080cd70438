"""How many GPUs there are for Ray workers of a training."""

from __future__ import annotations

import os

import torch


def free_gpus() -> int:
    """GPUs of the cluster that this job runs on and that nobody holds, such as this process by
    `ray job submit --entrypoint-num-gpus`; without a cluster this machine's, where one process cannot use all."""
    if not os.environ.get("RAY_ADDRESS"):
        return torch.cuda.device_count() if torch.cuda.device_count() > 1 else 0
    import ray  # seconds, which a training in one process need not spend

    ray.init(ignore_reinit_error=True)
    return int(ray.available_resources().get("GPU", 0))
