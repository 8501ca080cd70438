"""The device that torch computes on."""

from __future__ import annotations

import torch


def default_device() -> str:
    """Name of the device to compute on: cuda if there is a GPU, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def chosen_device(name: str | None) -> torch.device:
    """The device with that name; None means a GPU if there is one, else the CPU. Raises ValueError if it cannot be
    used."""
    if name is None:
        return torch.device(default_device())
    try:
        device = torch.device(name)
        torch.empty(1, device=device).add_(1)
        usable = device.type != "meta"
    # Each backend of torch raises its own exception if it is missing.
    except Exception:
        usable = False
    if not usable:
        gpus = torch.cuda.device_count()
        here = "cpu, as there is no GPU here" if not gpus else f"cpu, or cuda:0 to cuda:{gpus - 1}"
        raise ValueError(f"device {name!r} cannot be used; expected {here}")
    return device
