"""Checks the flags of jobs.convert: which network is asked for, and what cannot be combined with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from ddpm_seg.checks import flag
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.loading import CHECKPOINTS


def chosen_checkpoint(config: ConvertConfig) -> Checkpoint:
    """The checkpoint that the flags ask for. Raises ValueError for flags that cannot be combined."""
    found = [checkpoint for checkpoint in CHECKPOINTS if getattr(config, checkpoint.flag) is not None]
    if not found:
        networks = ", ".join(flag(checkpoint.flag) for checkpoint in CHECKPOINTS)
        raise ValueError(
            f"nothing to convert: give {networks}, --pair, --modelscope or --gan-samples, with a file or folder"
        )
    if len(found) > 1:
        raise ValueError(f"a bundle holds one network: give only one of {', '.join(flag(one.flag) for one in found)}")
    checkpoint = found[0]
    own = flag(checkpoint.flag)
    if others := _given(config, besides=("output", checkpoint.flag, *checkpoint.options)):
        raise ValueError(f"{flag(others[0])} cannot be combined with {own}: leave it out")
    if (config.classifiers is None) != (config.experiment is None):
        missing = "experiment FILE.json" if config.experiment is None else "classifiers DIR"
        raise ValueError(f"--classifiers and --experiment need each other: add --{missing}, or leave out both")
    if config.noise is not None and (config.noise_generator is not None or config.noise_seed != 0):
        raise ValueError(
            "--noise gives the noise itself: leave out --noise-generator and --noise-seed, or leave out --noise"
        )
    return checkpoint


def refuse_beside_modelscope(config: ConvertConfig) -> None:
    """Raises ValueError if any other flag but --output is given."""
    _refuse_beside("modelscope", config)


def refuse_beside_pair(config: ConvertConfig) -> None:
    """Raises ValueError if any other flag but --output is given."""
    _refuse_beside("pair", config)


def refuse_beside_gan_samples(config: ConvertConfig) -> None:
    """Raises ValueError if any other flag but --output and --task is given, or no --task."""
    _refuse_beside("gan_samples", config, "task")
    if config.task is None:
        raise ValueError("--gan-samples has class ids, but no names: give --task, such as ffhq_34 or FILE.yaml")


def _refuse_beside(own: str, config: ConvertConfig, *allowed: str) -> None:
    if given := _given(config, besides=("output", own, *allowed)):
        raise ValueError(f"{flag(own)} cannot be combined with {flag(given[0])}: leave out one of them")


def _given(config: ConvertConfig, besides: Iterable[str]) -> list[str]:
    """Names of the fields that differ from their defaults."""
    names = [field.name for field in fields(config) if field.name not in besides]
    defaults = {field.name: field.default for field in fields(config)}
    return [name for name in names if getattr(config, name) != defaults[name]]
