"""What the label job is told. Without torch and Ray, so that --help is quick."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ddpm_seg.checks import check_least
from ddpm_seg.data.canvas import FitMode
from ddpm_seg.model.device.dtypes import SegmentDType
from ddpm_seg.pipeline.run_options import RunOptions, own_options_first

_LIMIT = re.compile(r"(?P<number>\d+)|(?P<percent>\d+(\.\d+)?)%", re.ASCII)


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig(RunOptions):
    """Masks and class statistics for every image under a prefix, as Parquet tables."""

    input: str | None = None
    """Images to label: a folder or prefix (s3://bucket/photos), a glob, one file or URL, or a .txt, .csv, .tsv or
    .parquet list of them. Without it, the sample images that come with the package."""
    output: str = "out"
    """Folder or prefix for the tables. A second run into the same one does only what is new or changed."""
    model: str = "avatars-10"
    """Model bundle: the name of one that comes with the package, or where jobs.train or jobs.convert wrote one."""
    fit: FitMode = "letterbox"
    """How an image that is not square meets the network's square: edges padded and cut off again, or stretched."""
    dtype: SegmentDType = "float32"
    """Number format of the network. The narrow ones change a few pixels; 16 bits are for GPUs, and faster on CPUs with
    instructions for them; int8 is for large networks on CPUs. `jobs.benchmark` says what pays."""
    limit: int | None = None
    """Label at most this many of the new images, and leave the rest to the next run. Useful to try things out."""
    batch_size: int | None = None
    """Images (times diffusion steps) that go through the network at once. By default as many as fit in memory."""
    chunk_size: int = 256
    """Most images in a unit of work, which is what is lost when a machine dies. Small inputs are cut finer."""
    max_errors: str | None = None
    """Stop a run in which more images than this are errors: a number (100), or a share of the run's images (5%). Those
    that --retry-errors tries again do not count. By default errors are counted and the run goes on."""
    retry_errors: bool = False
    """Label again the images that were errors in their latest run, though they have not changed since."""

    check_versions: bool = True
    """Ask for the version (ETag, else size and time) of each object of a list that does not have it: one request each.
    Without, a changed object is not seen as changed."""
    allow_local_hosts: bool = False
    """Let lists name http(s) hosts of this machine and link-local ones, such as a cloud's metadata service."""

    active: int | None = None
    """Afterwards, choose so many labelled images that are most worth annotating next: uncertain ones, each in another
    way. Writes annotate_next.csv and annotate_next.html to the output."""

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)  # super() does not know a class that slots=True makes anew
        check_least(self, limit=1, active=1)
        self.error_limit(0)

    def error_limit(self, images: int) -> int | None:
        """The most error rows that a run of so many images may have; None where there is no limit."""
        if self.max_errors is None:
            return None
        match = _LIMIT.fullmatch(self.max_errors)
        if match and match["number"]:
            return int(match["number"])
        if match and float(match["percent"]) <= 100:
            return int(images * float(match["percent"]) / 100)
        raise ValueError(f"--max-errors must be a number of images (100) or a share (5%), got {self.max_errors!r}")
