"""From a folder of unlabelled images to a DDPM or MAE bundle: here in one process, or on a cluster's GPUs with Ray
Train."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.cluster.training_workers import Worker, free_gpus, train_on_ray
from ddpm_seg.data.image_set import load_images
from ddpm_seg.data.listing import list_images
from ddpm_seg.errors import work_began
from ddpm_seg.model.bundle import read_header, save_bundle
from ddpm_seg.model.bundle_files import refuse_standing_bundle
from ddpm_seg.model.devices import default_device
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.mae import MAEConfig
from ddpm_seg.model.unet import UNetConfig
from ddpm_seg.progress import Progress
from ddpm_seg.training.ddpm import Denoising
from ddpm_seg.training.masked_autoencoder import Inpainting
from ddpm_seg.training.network_training import NetworkTraining, Objective, Optimization, train_network

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImagesAndOutput:
    """A base class of its own so that --help begins with these: the fields of the last base come first."""

    images: str
    """Folder, URI prefix or list of unlabelled images; labels beside them are not read."""
    output: str
    """Where the bundle is written. The state of an unfinished training stands there too."""
    image_size: int = 64
    """Side of the network's square input."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Optimization, ImagesAndOutput):
    """What every pretraining is told; the network's own settings are below."""

    compile: bool = False
    """Run the network through torch.compile: training begins minutes later, and is then faster, for long ones. Where
    that fails it trains as it is, and the log says so."""
    num_workers: int | None = None
    """Ray Train workers. Default: one for each GPU of the cluster; without GPUs, this process alone."""

    def objective(self) -> Objective:
        """What is trained. Raises ValueError for a network that cannot be."""
        raise NotImplementedError

    def optimization(self) -> Optimization:
        """What the weights depend on, beside the images and the network."""
        return Optimization(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Optimization)})


@dataclass(frozen=True, kw_only=True)
class PretrainDDPMConfig(PretrainConfig):
    """Settings of `jobs.pretrain`. The network's are named as guided-diffusion's flags."""

    num_channels: int = 32
    """Channels of the first level."""
    num_res_blocks: int = 1
    """Residual blocks a level."""
    channel_mult: tuple[int, ...] = (1, 1, 2, 4)
    """Channels of each level, as multiples of --num-channels."""
    attention_resolutions: tuple[int, ...] = (8,)
    """Sides of the feature maps that get self-attention."""
    noise_schedule: Literal["linear", "cosine"] = "linear"
    """How noise grows over 1000 diffusion steps."""

    def objective(self) -> Denoising:
        unet = UNetConfig(
            image_size=self.image_size,
            num_channels=self.num_channels,
            num_res_blocks=self.num_res_blocks,
            channel_mult=self.channel_mult,
            attention_resolutions=self.attention_resolutions,
        )
        return Denoising(unet, DiffusionConfig(noise_schedule=self.noise_schedule))


@dataclass(frozen=True, kw_only=True)
class PretrainMAEConfig(PretrainConfig):
    """Settings of `jobs.pretrain_mae`."""

    patch_size: int = 8
    """Side of a patch; --image-size must be a multiple of it."""
    width: int = 192
    """Of a token."""
    depth: int = 12
    """Blocks of the encoder; its decoder has a third as many, half as wide."""
    num_heads: int = 3
    """Of the attention."""

    def objective(self) -> Inpainting:
        return Inpainting(
            MAEConfig(
                image_size=self.image_size,
                patch_size=self.patch_size,
                width=self.width,
                depth=self.depth,
                num_heads=self.num_heads,
            )
        )


def pretrain(config: PretrainConfig) -> str:
    """Trains, or goes on with an interrupted training at the same output, and writes the bundle; its model id.

    Raises ValueError or OSError, before any training, for whatever the user can mend.
    """
    config.objective()
    refuse_standing_bundle(config.output)
    storage.check_writable(config.output)
    workers = config.num_workers if config.num_workers is not None else free_gpus()
    if workers < 0 or workers > config.batch_size:
        raise ValueError(f"num_workers must be between 0 and the batch size {config.batch_size}, got {workers}")
    if workers:
        config = dataclasses.replace(config, output=storage.normalize(config.output))  # workers have other folders
        list_images(config.images)  # a wrong name is found here, not by every worker
        train_on_ray(_train, config, workers)
    else:
        _train(config, Worker(device=default_device()))
    return read_header(config.output).model_id


def _train(config: PretrainConfig, worker: Worker) -> None:
    """One worker's whole training; each reads the images and takes its share of every batch. The first one saves the
    state at the output as it goes, and then the bundle."""
    images = load_images(config.images, config.image_size)
    training = NetworkTraining(config.objective(), config.optimization(), worker, compile=config.compile)
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
        save_bundle(training.bundle({"training_images": len(images)}), config.output)
        storage.delete(state_uri)
