"""Trains a DDPM or MAE on a folder of unlabelled images, in this process or on a cluster's GPUs with Ray Train."""

from __future__ import annotations

import logging
from typing import Any

from ddpm_seg import storage
from ddpm_seg.cluster.training_workers import Worker, free_gpus
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.errors import work_began
from ddpm_seg.fits import FitMode, with_fit
from ddpm_seg.model.bundle.ensemble_bundle import read_header, save_bundle
from ddpm_seg.model.bundle.files import refuse_existing_bundle
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.progress import Progress
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.inpainting import Inpainting
from ddpm_seg.training.network.network_training import NetworkTraining, train_network
from ddpm_seg.training.network.objective import Objective
from ddpm_seg.training.network.pretrain_config import (
    DEFAULT_SIDE,
    PretrainConfig,
    PretrainDDPMConfig,
    PretrainMAEConfig,
)
from ddpm_seg.training.network.start import find_start
from ddpm_seg.training.network.training_images import read_training_images
from ddpm_seg.training.processes import train_in

logger = logging.getLogger(__name__)


def pretrain(config: PretrainConfig) -> str:
    """Trains a network and writes its bundle; returns the model id. Resumes an interrupted training at the same output.

    Raises ValueError or OSError, before any training, for mistakes that the user can fix.
    """
    _warn_without_attention(_objective(config))
    refuse_existing_bundle(config.output)
    storage.check_writable(config.output)
    workers = config.num_workers if config.num_workers is not None else free_gpus()
    if workers < 0 or workers > config.batch_size:
        raise ValueError(f"num_workers must be between 0 and the batch size {config.batch_size}, got {workers}")
    if workers:
        list_images(config.images)  # reports a wrong name before any worker starts
    train_in(workers, _train, config)
    return read_header(config.output).model_id


def _train(config: PretrainConfig, worker: Worker) -> None:
    """One worker's training. Every worker reads all images, into a file of its own, and takes its share of each batch;
    the first also saves the state at the output and, at the end, the bundle."""
    objective, options = _objective(config), config.optimization()
    fit = _fit(config, objective)
    varied: dict[str, Any] = {"crop": config.crop, "held_out": config.held_out, "recolour": config.recolour}
    training = NetworkTraining(objective, options, worker, images={"fit": fit, **varied}, compile=config.compile)
    images = read_training_images(config.images, objective.image_size, fit, **varied)
    state_uri = storage.join(config.output, "unfinished_training.pt")
    logger.info("%d images, %d iterations on %s", len(images), config.iterations, worker.device)
    with work_began():
        if worker.rank:
            train_network(training, images, state_uri, lambda _: None)
            return
        with Progress("training", total=config.iterations, unit="batches") as progress:
            train_network(
                training,
                images,
                state_uri,
                lambda training: progress.at(training.iteration, loss=training.loss),
            )
        save_bundle(training.bundle(with_fit({"training_images": len(images)}, fit)), config.output)
        storage.delete(state_uri)


def _fit(config: PretrainConfig, objective: Objective) -> FitMode:
    start = objective.start if isinstance(objective, Denoising) else None
    return config.fit or (start.fit if start else "letterbox")


def _warn_without_attention(objective: Objective) -> None:
    """The default is made for 64 pixels: 256 have no level of that side, and the network would lack attention
    unnoticed."""
    if not isinstance(objective, Denoising):
        return
    unet = objective.unet
    sides = {unet.image_size // 2**level: unet.has_attention(level) for level in range(len(unet.channel_mult))}
    if unet.attention_resolutions and not any(sides.values()):
        logger.warning(
            "the network gets no attention: --attention-resolutions %s, but its levels have the sides %s",
            " ".join(map(str, unet.attention_resolutions)),
            ", ".join(map(str, sides)),
        )


def _objective(config: PretrainConfig) -> Objective:
    """The objective that `config` describes. Raises ValueError if its network cannot be built."""
    side = DEFAULT_SIDE if config.image_size is None else config.image_size
    if isinstance(config, PretrainMAEConfig):
        return Inpainting(
            MAEConfig(
                image_size=side,
                patch_size=config.patch_size,
                width=config.width,
                depth=config.depth,
                num_heads=config.num_heads,
            )
        )
    assert isinstance(config, PretrainDDPMConfig)
    if start := find_start(config):
        return Denoising(start.unet, start.diffusion, start)
    unet = UNetConfig(
        image_size=side,
        num_channels=config.num_channels,
        num_res_blocks=config.num_res_blocks,
        channel_mult=config.channel_mult,
        attention_resolutions=config.attention_resolutions,
    )
    return Denoising(unet, DiffusionConfig(noise_schedule=config.noise_schedule))
