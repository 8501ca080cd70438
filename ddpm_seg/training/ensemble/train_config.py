"""The settings of jobs.train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.fits import FitMode
from ddpm_seg.option_order import own_options_first


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(AnnotationOptions):
    """Settings of `jobs.train`."""

    model: str
    """Model bundle with the network (DDPM, MAE, VDVAE, …): packaged name, folder or URI prefix. An ensemble that it
    already has is not used."""
    images: str
    """Annotated images, about twenty: a folder or URI prefix with X.png (or .jpg, …) beside X.npy (an integer array of
    class ids), X_mask.png beside X.jpg, or images/X.jpg and masks/X.png; a .parquet table with masks, such as ddpm-seg
    label writes; the .json of COCO, Label Studio or LabelMe, or a folder of them; CVAT's .xml; or a folder of Pascal
    VOC or YOLO."""
    only: str | None = None
    """Train only on the images in this list (.txt, .csv, .tsv or .parquet). Of verdicts.csv, which a report saves, only
    the accepted ones; --images may then be the --output of ddpm-seg label."""
    task: str
    """The classes that the ids in the masks stand for: the name of a built-in task, or a .yaml or .json file with
    class_names."""
    output: str
    """Folder or URI prefix for the new bundle."""
    fit: FitMode | None = None
    """How to fit an image that is not square into the network's square input: letterbox pads it, stretch distorts it.
    The bundle records it, and ddpm-seg label, ddpm-seg evaluate and ddpm_seg.load do the same. Default: as the images
    were fitted that the network learned from."""
    members: int = 10
    """Number of classifiers in the ensemble."""
    tune: bool = False
    """First choose steps and blocks by cross-validation on these images, then how ddpm-seg label makes masks with this
    model (--resize, --refine and --average): print quality and cost of each choice, then train with the best."""
    probe: str | None = None
    """With --tune, the --output of a ddpm-seg probe of the same network: only its four best steps are tried, and no
    block whose best score is under half of the best block's."""
    steps: tuple[int, ...] | None = None
    """Diffusion timesteps to read features at. Default: the bundle's own, else 50 150 250 of 1000, scaled if the DDPM
    has another number of timesteps. Refused for other networks, which see the image without noise, and with --tune."""
    blocks: tuple[int, ...] | None = None
    """Blocks of the network to read features from. Those of a DDPM's decoder and of a GAN Inversion count from 0 at the
    lowest resolution, those of other networks from 0 at the image. Default: the bundle's own, else the published
    choice."""
    noise_draws: int | None = None
    """For a DDPM: average its features over this many noises, which takes as many passes of every image, here and
    wherever the bundle labels. Default: the bundle's own, else 1."""
    image_size: int | None = None
    """For a DDPM: show it images of this side instead of the one that it was trained on, a multiple of its lowest
    resolution's stride. The bundle then takes images of this side everywhere. Default: the network's own."""
    upsample_mode: Literal["bilinear", "nearest"] | None = None
    """How to upsample features to the image's size. Default: the bundle's own, else bilinear."""
    truncation: float | None = None
    """For a StyleGAN2 only: the --truncation that ddpm-seg generate drew the annotated samples with. Default: the
    bundle's own, else 0.7."""
    mirror: bool = False
    """Also train on every image's mirror image. Gives better masks. Leave it off if classes distinguish left from right
    and the task file does not pair them in mirror_pairs."""
    recolour: int = 0
    """Also train on this many slightly recoloured copies of every image. Gives better masks from few images; each copy
    adds as much time and memory as the image itself."""
    recipe: Literal["cosine", "published"] = "cosine"
    """Training recipe. cosine: batches of 256 pixels, standardised features, a learning rate that falls to zero.
    published: batches of 64, a constant rate, and each classifier stops when its loss stops falling."""
    iterations: int | None = None
    """Number of batches to train each classifier on; the maximum with --recipe published. Default: 1500, or with
    --recipe published 100 epochs."""
    seed: int = 0
    """Random seed for the classifiers' initial weights and order of pixels. The same seed gives the same bundle."""
    limit: int | None = None
    """Train only on the first LIMIT images, sorted by name. Default: all."""
    validation: str | None = None
    """Annotated images, in any form that --images takes, to score the finished bundle on (mean IoU by the published
    formula)."""
    calibration: str | None = None
    """Annotated images that are not trained on, in any form that --images takes: makes the finished bundle's confidence
    say how often it is right, class by class. Labels stay the same."""
    out_of_fold: bool = False
    """Also train small ensembles on parts of the images, to predict the others: writes annotation_review.html, which
    shows the annotations that are probably wrong, and calibrates confidence if --calibration does not. Takes less than
    half as long again."""
    num_actors: int | None = None
    """Ray actors that compute the features; worthwhile from hundreds of images on. Default: one per free GPU of the
    cluster, or of this machine if it has several; else 0, which computes them in this process."""
    device: str | None = None
    """torch device to train on, such as cpu or cuda:0. Default: a GPU if there is one, else the CPU."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output", "only", "probe")
        check_least(
            self, members=1, recolour=0, iterations=1, seed=0, limit=1, num_actors=0, noise_draws=1, image_size=1
        )
        if self.probe is not None and not self.tune:
            raise ValueError("--probe says what --tune should try: give --tune too, or leave out --probe")
        for name in ("steps", "blocks"):
            if getattr(self, name) == ():
                raise ValueError(f"--{name} has no values; give some, or leave it out")
