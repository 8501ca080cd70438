"""What is scored, and the files that say how well: settings of jobs.evaluate."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.model.bundle.files import check_model_id
from ddpm_seg.model.device.dtypes import SegmentDType

METRICS, IMAGES, PAGE, LISTED = "metrics.json", "images.parquet", "evaluation.html", "annotated.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig(AnnotationOptions):
    """Settings of `jobs.evaluate`."""

    images: str
    """Annotated images, in any form that jobs.train takes."""
    output: str
    """Folder or prefix for metrics.json, images.parquet, evaluation.html, and the labels themselves."""
    model: str = "avatars-10"
    """Model bundle: the name of one that comes with the package, or where jobs.train or jobs.convert wrote one."""
    expect_model_id: str | None = None
    """The model_id that the bundle must have, or nothing is done."""
    labels: str | None = None
    """Score these labels, an --output of jobs.label with the same --model, instead of labelling the images."""
    config_hash: str | None = None
    """Which of the --labels, where several models or options are there (config=… under labels/); by default those of
    the newest run."""
    dtype: SegmentDType = "float32"
    """Number format of the network."""
    limit: int | None = None
    """Only the first so many images, by name."""
    num_actors: int | None = None
    """Copies of the model that work side by side; by default as many as the GPUs hold."""
    splits: int | None = None
    """Train so many new ensembles, as the model's own was trained, each on --shots random ones of the images, and score
    each on the other images: mean and deviation, as in the paper's table."""
    shots: int = 20
    """Images that each of the --splits is trained on."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output", "labels")
        check_model_id(self.expect_model_id)
        check_least(self, limit=1, num_actors=1, splits=1, shots=1)
