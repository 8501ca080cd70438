"""ddpm-segmentation's names for its networks, and the flags of its DDPMs."""

from __future__ import annotations

from typing import Literal

ModelType = Literal["ddpm", "mae", "swav", "swav_w2"]
"""Names of networks in ddpm-segmentation's experiments."""

LSUN_FFHQ_256 = (
    "--attention_resolutions 32,16,8 --class_cond False --diffusion_steps 1000 --dropout 0.1 --image_size 256 "
    "--learn_sigma True --noise_schedule linear --num_channels 256 --num_head_channels 64 --num_res_blocks 2 "
    "--resblock_updown True --use_fp16 True --use_scale_shift_norm True"
)
"""MODEL_FLAGS in ddpm-segmentation's `scripts/ddpm/train_interpreter.sh`."""
