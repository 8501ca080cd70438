"""The settings of jobs.evaluate, and the names of its files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least, check_tile, flag
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.data.fit_options import Refine
from ddpm_seg.fits import Average, FitMode
from ddpm_seg.model.bundle.files import check_model_id
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.option_order import own_options_first

Baseline = Literal["rgb", "untrained", "supervised"]

SHOTS = (20,)
HOW_LABELLED = ("dtype", "refine", "average", "tile", "num_actors")
METRICS, IMAGES, PAGE, LISTED = "metrics.json", "images.parquet", "evaluation.html", "annotated.parquet"


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig(AnnotationOptions):
    """Settings of `jobs.evaluate`."""

    images: str
    """Annotated images to score on, in any form that ddpm-seg train --images takes."""
    output: str
    """Folder or URI prefix for the results: metrics.json, images.parquet, evaluation.html and the labels. With --labels
    no labels are written. With --labels-of only metrics.json is written; with --splits also a folder per split with its
    model and its own results, and with several --shots a curve (curve.csv, curve.png, curve.svg) and evaluation.html;
    with --members metrics.json, members.csv, members.png and members.svg."""
    model: str = "avatars-10"
    """Model bundle: the name of one that comes with the package, or the folder or URI prefix that ddpm-seg train,
    ddpm-seg convert or ddpm-seg distill wrote."""
    expect_model_id: str | None = None
    """Stop before doing anything unless the bundle has this model_id."""
    labels: str | None = None
    """Score existing labels instead of labelling the images: the --output of a ddpm-seg label run with the same
    --model."""
    labels_of: str | None = None
    """Instead of scoring a model, compare the masks of --images with these: another annotator's masks of the same
    images, in any form that --images takes. Reports the agreement per class; --model only names the classes."""
    config_hash: str | None = None
    """Score the labels of this configuration (HASH of a folder config=HASH under labels/), if --labels holds several.
    Default: the configuration of the newest run."""
    dtype: DType = "float32"
    """Number format of the network's activations."""
    fit: FitMode | None = None
    """How to fit an image that is not square into the network's square input; see ddpm-seg label --fit. With
    --splits, the new ensembles are trained on images fitted the same way. Default: as the model's own images were
    fitted."""
    refine: Refine | None = None
    """Move the edges of masks to edges of the image before scoring; see ddpm-seg label --refine. This changes only the
    scores at the images' own size."""
    average: Average | None = None
    """Average over several views of each image: mirror or shifts; see ddpm-seg label --average."""
    tile: float | None = None
    """Cut images into overlapping squares at this scale; see ddpm-seg label --tile."""
    limit: int | None = None
    """Score only the first LIMIT images, sorted by name. Default: all."""
    num_actors: int | None = None
    """Copies of the model that work in parallel. Default: as many as fit on the cluster's GPUs; without GPUs, one per
    machine."""
    splits: int | None = None
    """Instead of scoring the model itself, draw this many random splits of the images. For each split, train a new
    ensemble with the model's own settings on --shots images and score it on the others. Reports mean and standard
    deviation, like the paper's table."""
    shots: tuple[int, ...] = SHOTS
    """Number of training images in each of the --splits. Several numbers give a learning curve: all of them are scored
    on the same images, those that the largest leaves."""
    baselines: tuple[Baseline, ...] = ()
    """With a learning curve, also train what ddpm-seg compare has, on the same splits: the same classifiers on
    colours and coordinates (rgb) and on the network with random weights (untrained), and a U-Net from scratch
    (supervised)."""
    members: tuple[int, ...] = ()
    """Instead of the whole ensemble, score ensembles of this many of its classifiers: one, two, … For each number, as
    many ensembles as the model has classifiers for, none of them twice. Not with --splits."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output", "labels")
        if isinstance(self.shots, int):  # callers from Python may give one number
            object.__setattr__(self, "shots", (self.shots,))
        if not self.shots or min(self.shots) < 1 or len(set(self.shots)) < len(self.shots):
            raise ValueError(f"--shots must be different numbers of at least 1, got {self.shots}")
        check_model_id(self.expect_model_id)
        if self.labels_of is not None and (self.labels is not None or self.splits is not None):
            raise ValueError("--labels-of compares two annotators: leave out --labels and --splits, or --labels-of")
        self._check_labels()
        if self.shots != SHOTS and self.splits is None:
            raise ValueError(f"--shots {' '.join(map(str, self.shots))} needs --splits, the number of random splits")
        if self.baselines and (self.splits is None or len(self.shots) < 2):
            raise ValueError("--baselines belong to a learning curve: give --splits, and several --shots")
        self._check_members()
        check_tile(self.tile, self.average)
        check_least(self, limit=1, num_actors=1, splits=1)

    def _check_labels(self) -> None:
        if self.labels is None and self.config_hash is not None:
            raise ValueError("--config-hash chooses among labels that exist: give --labels, or leave it out")
        if self.labels is not None:
            self._refuse("--labels scores masks as they are", *HOW_LABELLED)
        if self.labels_of is not None:
            self._refuse("--labels-of compares two annotators", *HOW_LABELLED)

    def _refuse(self, reason: str, *names: str) -> None:
        """Raises ValueError if one of these options is not at its default, as it would change nothing."""
        defaults = {one.name: one.default for one in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{reason}: leave out {flag(name)}")

    def _check_members(self) -> None:
        if isinstance(self.members, int):  # callers from Python may give one number
            object.__setattr__(self, "members", (self.members,))
        if not self.members:
            return
        if min(self.members) < 1 or len(set(self.members)) < len(self.members):
            raise ValueError(f"--members must be different numbers of at least 1, got {self.members}")
        others = ("splits", "labels", "labels_of", *HOW_LABELLED)
        self._refuse("--members scores parts of the ensemble itself, in float32 and in this process", *others)
