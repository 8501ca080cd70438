"""The settings of jobs.label. Imports neither torch nor Ray, so that --help is fast."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least, check_target, check_tile
from ddpm_seg.data.fit_options import Refine, Resize
from ddpm_seg.fits import Average, FitMode
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.option_order import own_options_first
from ddpm_seg.pipeline.run_options import RunOptions

_LIMIT = re.compile(r"(?P<number>\d+)|(?P<percent>\d+(\.\d+)?)%", re.ASCII)


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig(RunOptions):
    """Settings of `jobs.label`."""

    input: str | None = None
    """Images to label: a folder or prefix (s3://bucket/photos), a glob, one file or URL, tars like WebDataset's
    (s3://bucket/{00000..00099}.tar), Parquet tables with images in them, or a .txt, .csv, .tsv or .parquet list of any
    of these. Default: the sample images that come with the package."""
    output: str = "out"
    """Folder or URI prefix for the tables. A second run with the same output labels only new or changed images."""
    model: str = "avatars-10"
    """Model bundle: the name of one that comes with the package, or the folder or URI prefix that ddpm-seg train,
    ddpm-seg convert or ddpm-seg distill wrote."""
    fit: FitMode | None = None
    """How to fit an image that is not square into the network's square input: letterbox pads it (the padding is cut
    off the mask again), stretch distorts it. Default: as the images were fitted that the model learned from."""
    resize: Resize | None = None
    """How to enlarge masks to their images' own size: bilinear interpolates the class probabilities, nearest repeats
    the network's pixels. Default: bilinear, or nearest if the newest run at --output used nearest."""
    refine: Refine | None = None
    """For images larger than the network's input, move the edges of masks to edges of the image: bilateral uses joint
    bilateral upsampling, guided the guided filter. Reads every image a second time. Default: what ddpm-seg train --tune
    chose for the model, else none."""
    average: Average | None = None
    """Let the network see several views of each image, and average: mirror also shows it the mirror image (twice the
    work), shifts shows it four views half a network pixel apart (four times). Masks get better. For mirror, classes
    that tell left from right must be in mirror_pairs of the task file that the model was trained with. Default: what
    ddpm-seg train --tune chose for the model, else none."""
    tile: float | None = None
    """For large images: shrink each image to this share of its size (0.5: half as wide and high; 1: not at all), cut it
    into overlapping squares of the network's side, and blend their masks. Only for models whose classes do not depend
    on the whole picture, such as textures or cells; compare with ddpm-seg evaluate --tile. Default: fit the whole image
    into one square."""
    target_error: str | None = None
    """Set pixels that are not confident enough to 255 (no class), so that on average at most this share of an image's
    pixels, such as 1%, has a wrong class. Needs --calibration."""
    calibration: str | None = None
    """Annotated images, in any form that ddpm-seg train --images takes, that resemble the images to label and that the
    model was not trained on. They determine the least confidence for --target-error; 1% needs at least 99 of them, 5%
    needs 19."""
    maps: bool = False
    """Also write two pictures per image: the probability of each pixel's class (confidence_map), and the labels at the
    network's own resolution (network_mask). Without them ddpm-seg evaluate resizes the masks and reports no
    confidence."""
    dtype: DType = "float32"
    """Number format of the network's activations. All except float32 change a few pixels. float16 and bfloat16 are
    faster on GPUs and on CPUs with instructions for them; int8 is for large networks on CPUs. ddpm-seg benchmark
    measures which is fastest."""
    limit: int | None = None
    """Label at most this many new images; the next run labels the rest. Useful for trying things out. Default: all."""
    batch_size: int | None = None
    """How many (image, diffusion step) pairs go through the network at once. Default: as many as fit in memory."""
    chunk_size: int = 256
    """Maximum number of images per chunk of work; for few images, chunks are smaller. If a machine dies, the chunks in
    progress on it are done again."""
    image_key: str | None = None
    """In tars: which members are the images, by what follows the first dot of their names: jpg, or left.png. Default:
    the first image of each sample."""
    image_column: str | None = None
    """In Parquet tables: the column with the images, as bytes or struct<bytes, path>. Default: image, or the only such
    column."""
    uri_column: str | None = None
    """In tables of URIs (.csv, .tsv, .parquet; one, or all that --input names): the column with the URIs. Default: uri,
    url or path."""
    max_errors: str | None = None
    """Stop a run once more images than this have errors: a number (100) or a share of the run's images (5%). Images
    that --retry-errors tries again raise the limit by their number. Default: never stop because of errors."""
    retry_errors: bool = False
    """Also label again the images whose latest row is an error, even if they have not changed."""
    redo: str | None = None
    """Label only the images in this list (.txt, .csv, .tsv or .parquet), even if they are labelled already. Of
    verdicts.csv, which a report saves, only the rejected ones that no later run has labelled again. The same model and
    settings give the same masks, so choose another --model, --resize or --refine."""

    check_versions: bool = True
    """For lists: ask the storage for the version of each object (ETag, else size and time), one request per object, if
    the list does not give it. Without this, changed objects are not noticed."""
    allow_local_hosts: bool = False
    """Let lists name http(s) hosts on this machine and link-local addresses, such as a cloud's metadata service."""

    active: int | None = None
    """After labelling, choose this many uncertain images that differ in what is uncertain, to annotate next. Writes
    annotate_next.csv and annotate_next.html to --output. Random images did as well in our measurements."""

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)  # super() does not know a class that slots=True makes anew
        storage.normalize_places(self, "redo")
        check_least(self, limit=1, active=1)
        check_tile(self.tile, self.average)
        self.error_limit(0)
        check_target(self.target_error, self.calibration)
        if self.refine not in (None, "none") and self.resize == "nearest":
            raise ValueError(f"--refine {self.refine} works on interpolated probabilities: leave out --resize nearest")

    def error_limit(self, images: int) -> int | None:
        """How many error rows a run of `images` images may have; None means no limit."""
        if self.max_errors is None:
            return None
        match = _LIMIT.fullmatch(self.max_errors)
        if match and match["number"]:
            return int(match["number"])
        if match and float(match["percent"]) <= 100:
            return int(images * float(match["percent"]) / 100)
        raise ValueError(f"--max-errors must be a number of images (100) or a share (5%), got {self.max_errors!r}")
