from __future__ import annotations

import warnings

import numpy as np
import torch

from ddpm_seg.model.networks.pixel_values import to_network


def test_a_picture_that_may_not_be_written_to_causes_no_warning() -> None:
    pictures = np.zeros((1, 4, 4, 3), np.uint8)
    pictures.setflags(write=False)
    torch.set_warn_always(True)  # otherwise only the first such warning of a process is shown
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert to_network(pictures, "cpu").shape == (1, 3, 4, 4)
    finally:
        torch.set_warn_always(False)
