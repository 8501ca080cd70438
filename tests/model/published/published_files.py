"""Writes tiny models in the layouts in which others publish theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.published.flags import configs_from_flags, split_model_flags
from tests.model import recorded_extractors

FLAGS = (
    "--image_size 16 --num_channels 32 --num_res_blocks 1 --channel_mult 1,2 --attention_resolutions 8 "
    "--learn_sigma True"
)
STEPS, BLOCKS = [50, 150], [1, 2]


def random_state(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    for key in state:
        if key.endswith("running_var"):
            state[key] = state[key].abs() + 0.5
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1000)
    return state


def unet_state(flags: str = FLAGS, seed: int = 0) -> dict[str, Tensor]:
    return random_state(weight_shapes(configs_from_flags(split_model_flags(flags))[0]), seed)


def feature_channels(flags: str = FLAGS) -> int:
    channels = configs_from_flags(split_model_flags(flags))[0].block_channels
    return len(STEPS) * sum(channels[block] for block in BLOCKS)


def experiment_values(**changes: Any) -> dict[str, Any]:
    """What an experiment file holds, the fields that are only of use in training too."""
    values = {
        "exp_dir": "pixel_classifiers/cat_15/ddpm",
        "model_type": "ddpm",
        "category": "cat_15",
        "number_class": 15,
        "ignore_label": 255,
        "training_path": "datasets/cat_15/real/train",
        "dim": [16, 16, feature_channels()],
        "steps": STEPS,
        "blocks": BLOCKS,
        "model_num": 3,
        "batch_size": 64,
        "upsample_mode": "bilinear",
        "share_noise": True,
        "input_activations": False,
    }
    return {key: value for key, value in {**values, **changes}.items() if value != "absent"}


def write_members(
    folder: Path, *, count: int = 3, num_classes: int = 15, prefix: str = "module.", dim: int | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        state = random_state(member_shapes(num_classes, dim or feature_channels()), seed=100 + index)
        prefixed = {prefix + key: value for key, value in state.items()}
        torch.save({"model_state_dict": prefixed}, folder / f"model_{index}.pth")


def write_published(folder: Path, **changes: Any) -> dict[str, str]:
    """Checkpoint, classifiers and experiment of ddpm-segmentation; returns their paths by the job's flags."""
    paths = {
        "ddpm": folder / "cat.pt",
        "classifiers": folder / "pixel_classifiers",
        "experiment": folder / "ddpm.json",
    }
    values = experiment_values(**changes)
    torch.save(unet_state(), paths["ddpm"])
    write_members(paths["classifiers"], num_classes=values["number_class"])
    paths["experiment"].write_text(json.dumps(values))
    return {name: str(path) for name, path in paths.items()}


def write_published_backbone(folder: Path, name: str, **changes: Any) -> dict[str, str]:
    """The same of a MAE or SwAV, of the case `name` of `recorded_extractors`."""
    model_type = recorded_extractors.CASES[name]["model_type"]
    dim = {"mae64": 1536, "swav64": 6720, "swav_w2_64": 13440}[name]
    paths = {
        model_type: folder / f"{model_type}.pth",
        "classifiers": folder / "pixel_classifiers",
        "experiment": folder / f"{model_type}.json",
    }
    of_inputs = {"model_type": model_type, "steps": [], "blocks": [], "input_activations": model_type != "mae"}
    values = experiment_values(**{**of_inputs, "dim": [64, 64, dim], "share_noise": "absent", **changes})
    recorded_extractors.write_checkpoint(paths[model_type], name, without_values=model_type != "mae")
    write_members(paths["classifiers"], dim=dim)
    paths["experiment"].write_text(json.dumps(values))
    return {flag: str(path) for flag, path in paths.items()}


def modelscope_configuration() -> dict[str, Any]:
    values = experiment_values()
    ddpm_keys = ("model_type", "steps", "blocks", "upsample_mode", "share_noise", "input_activations")
    return {
        "framework": "pytorch",
        "task": "semantic-segmentation",
        "model": {
            "type": "ddpm",
            "ddpm": {
                **{key: values[key] for key in ddpm_keys},
                "image_size": 16,
                "num_channels": 32,
                "num_res_blocks": 1,
                "channel_mult": "1,2",
                "attention_resolutions": "8",
                "learn_sigma": True,
                "use_fp16": False,
                "class_cond": False,
            },
            "mlp": {
                "dim": values["dim"],
                "model_num": 3,
                "cat_15": {"number_class": 15, "ignore_label": 255},
                "ffhq_34": {"number_class": 34, "ignore_label": 255},
            },
        },
        "pipeline": {"type": "ddpm-image-semantic-segmentation", "category": "cat_15"},
    }


def write_modelscope(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "configuration.json").write_text(json.dumps(modelscope_configuration()))
    torch.save(unet_state(), folder / "pytorch_model.pt")
    write_members(folder / "cat_15")
