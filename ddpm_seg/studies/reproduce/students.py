"""Trains and scores students on the published synthetic datasets: the rows DatasetDDPM and DatasetGAN of the table."""

from __future__ import annotations

from ddpm_seg import storage
from ddpm_seg.data.published_samples import PublishedSamples
from ddpm_seg.evaluation.tables.curation import curate
from ddpm_seg.evaluation.tables.curation_config import CurateConfig
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.pipeline.generate.published import convert_samples
from ddpm_seg.studies.evaluate import EvaluateConfig, run_evaluate
from ddpm_seg.studies.reproduce.config import ReproduceConfig
from ddpm_seg.studies.reproduce.published_scores import BENCHMARKS, NetworkName
from ddpm_seg.studies.reproduce.reproduced import Reproduced, place, reproduced
from ddpm_seg.training.student.distill import kept_or_distilled
from ddpm_seg.training.student.distill_config import DistillConfig

STUDENTS = {"dataset-ddpm": "ddpm", "dataset-gan": "gan"}
"""Rows of the table, and their folders of synthetic datasets."""


def synthetic_file(config: ReproduceConfig, network: NetworkName, task: str) -> str:
    """The URI of the published samples. Raises FileNotFoundError if there are none."""
    if config.synthetic is None:
        raise FileNotFoundError(f"{network} needs --synthetic, the folder of the published synthetic datasets")
    folder = storage.join(config.synthetic, STUDENTS[network], task)
    files = sorted(file.uri for file in storage.list_files(folder) if file.uri.endswith(".npz"))
    if len(files) != 1:
        raise FileNotFoundError(f"{storage.redact(folder)} has {len(files)} .npz files; {network} needs exactly one")
    return files[0]


def student_scores(config: ReproduceConfig, network: NetworkName, task: str) -> list[Reproduced]:
    """One score per seed. Samples and models that exist at the output are reused.

    Raises ValueError for a model that was trained with other settings.
    """
    uri = synthetic_file(config, network, task)
    samples = storage.join(config.output, "synthetic", place(network, task, 1))
    convert_samples(ConvertConfig(gan_samples=uri, task=task, output=samples))
    curate(CurateConfig(samples=samples, published_filter=True))
    with PublishedSamples(uri) as file:
        size = file.size
    real, scores = storage.join(config.datasets, task, "real"), []
    for seed in range(config.splits):
        model = storage.join(config.output, "models", place(network, task, seed + 1))
        kept_or_distilled(
            DistillConfig(
                samples=samples,
                output=model,
                validation=storage.join(real, "train"),
                resolution=size,
                epochs=config.epochs,
                backbone_weights=config.backbone_weights,
                seed=seed,
            )
        )
        folder, images = storage.join(config.output, place(network, task, seed + 1)), storage.join(real, "test")
        limit = BENCHMARKS[task].testing_images
        found = run_evaluate(EvaluateConfig(images=images, output=folder, model=model, limit=limit))
        scores.append(reproduced(network, task, f"seed {seed}", found))
    return scores
