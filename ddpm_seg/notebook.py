"""`ddpm_seg.load`: segment images in three lines, in notebooks and small scripts."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.checks import check_choice, check_tile
from ddpm_seg.data.canvas import Placement, fit, restore_mask, tile_canvas
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.data.decoding.images import ImageError, to_rgb
from ddpm_seg.data.domain import OUTSIDE
from ddpm_seg.data.fit_options import Refine, Resize
from ddpm_seg.data.image_labels import NotFiniteError, image_labels
from ddpm_seg.data.inputs.sources import ContainerError, read_image
from ddpm_seg.data.masks.enlarge import enlarge_maps
from ddpm_seg.data.overlay import colorize, indexed, overlay
from ddpm_seg.data.result_html import result_html
from ddpm_seg.data.statistics import ImageStatistics
from ddpm_seg.fits import Average, FitMode, chosen_fit
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.model.features import as_tuned
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.segment_canvas import canvas_probabilities, segment_canvases
from ddpm_seg.model.trained import load_model, resident
from ddpm_seg.model.views import finer
from ddpm_seg.tasks import Task

if TYPE_CHECKING:
    from ddpm_seg.model.trained import ResidentModel

ImageLike: TypeAlias = str | PathLike[str] | Image.Image | NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, repr=False)
class Segmentation:
    """The result for one image. Masks and maps have the image's own size, H x W."""

    image: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB, upright."""
    mask: NDArray[np.uint8]
    """(H, W) uint8 class ids; `task.class_names[id]` names them."""
    statistics: ImageStatistics
    task: Task
    _labels: PixelLabels
    _placement: Placement
    _segmenter: ResidentModel
    _canvas: NDArray[np.uint8]
    _resize: Resize
    _finer: int
    _tiles: bool

    def __repr__(self) -> str:
        height, width = self.mask.shape
        largest = sorted(self.statistics.classes, key=lambda entry: -entry.pixels)
        areas = ", ".join(f"{entry.class_name} {entry.fraction:.0%}" for entry in largest[:4])
        warning = "; unlike the training images" if self.outside else ""
        return f"Segmentation({width} x {height} pixels, uncertainty {self.uncertainty:.3f}: {areas}{warning})"

    def _repr_html_(self) -> str:
        return result_html(self.image, self.mask, self.statistics, self.task.palette, outside=self.outside)

    @property
    def outside(self) -> bool:
        """Whether the image is unlike those that the model was trained on (`domain_distance`)."""
        return self.domain_distance is not None and self.domain_distance > OUTSIDE

    @property
    def uncertainty(self) -> float:
        """Mean of `uncertainty_map` over the most uncertain tenth of the pixels, in nats. Padding does not count."""
        return self.statistics.uncertainty

    @property
    def domain_distance(self) -> float | None:
        """How far the image lies from the training images: over 1.4 it is unlike them, and its labels are not to be
        trusted. None if the model does not know its training images."""
        distance = self._labels.domain_distance
        return None if distance is None else float(distance)

    @property
    def uncertainty_map(self) -> NDArray[np.float32]:
        """(H, W) float32 in nats: the Jensen-Shannon divergence between the ensemble's members; a student's entropy."""
        return restore_mask(self._labels.uncertainty, self._placement)

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """(K, H, W) float32 class probabilities: the members' mean softmax. The first access runs the network again."""
        maps = canvas_probabilities(self._segmenter, self._canvas, tiles=self._tiles)
        placement = self._placement.finer(self._finer)
        if self._resize == "bilinear":
            return enlarge_maps(maps, placement)
        return np.stack([restore_mask(map_HW, placement) for map_HW in maps])

    def overlay(self, opacity: float = 0.5) -> Image.Image:
        """The image with the mask's colours blended over it; `opacity` 1 hides the image."""
        return Image.fromarray(overlay(self.image, self.mask, self.task.palette, opacity))

    def colors(self) -> Image.Image:
        """The mask in the colours of the task's palette."""
        return Image.fromarray(colorize(self.mask, self.task.palette))

    def save(self, uri: str | PathLike[str]) -> None:
        """Writes the mask to a path or URI that ends in .png: an indexed image of class ids, in the task's colours.

        Raises ValueError for another suffix, OSError if the file cannot be written.
        """
        name = fspath(uri)
        if not name.lower().endswith(".png"):
            raise ValueError(f"a mask is saved as .png, got {name}; for a blended picture: result.overlay().save(…)")
        buffer = io.BytesIO()
        indexed(self.mask, self.task.palette).save(buffer, format="PNG")
        storage.write_bytes(storage.normalize(name), buffer.getvalue())


class ImageSegmenter:
    """A model in memory. Call it with one image to get a `Segmentation`, or with a list to get a list."""

    def __init__(
        self,
        segmenter: ResidentModel,
        resize: Resize = "bilinear",
        refine: Refine = "none",
        fit: FitMode = "letterbox",
        finer: int = 1,
        tile: float | None = None,
    ) -> None:
        """`finer`: how many times finer the images that `segmenter` takes are than its answers, for averages; `tile`:
        the scale of images that are cut into squares, or None."""
        self.segmenter = segmenter
        self.resize: Resize = resize
        self.refine: Refine = refine
        self.fit: FitMode = fit
        self.finer = finer
        self.tile = tile
        self.task = segmenter.task

    def __repr__(self) -> str:
        names = self.task.class_names
        some = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        size = self.segmenter.image_size // self.finer
        device = self.segmenter.device
        return f"ImageSegmenter({self.task.name}: {len(names)} classes ({some}), {size} x {size} pixels, on {device})"

    @overload
    def __call__(self, images: ImageLike) -> Segmentation: ...
    @overload
    def __call__(self, images: list[ImageLike]) -> list[Segmentation]: ...

    def __call__(self, images: ImageLike | list[ImageLike]) -> Segmentation | list[Segmentation]:
        """Segments `images`: a path or URI, a PIL image, an (H, W, 3) uint8 array, or a list of these.

        Raises `ImageError` (`ddpm_seg.data.decoding.images`) or OSError if an image cannot be read, and TypeError for
        anything that is not an image.
        """
        if isinstance(images, list):
            return self._segment(images)
        return self._segment([images])[0]

    def _segment(self, images: list[ImageLike]) -> list[Segmentation]:
        if not images:
            return []
        pixels = [_to_rgb(image) for image in images]
        size = self.segmenter.image_size // self.finer
        sizes = [size if self.tile is None else tile_canvas(image, size, self.tile) for image in pixels]
        fitted = [fit(image, one, self.fit, self.finer) for image, one in zip(pixels, sizes, strict=True)]
        enlarged = any(placement.resized for _, placement in fitted)
        canvases, tiles = [canvas for canvas, _ in fitted], self.tile is not None
        labels = segment_canvases(self.segmenter, canvases, tiles=tiles, top=enlarged)
        return [self._result(*parts) for parts in zip(pixels, fitted, labels, strict=True)]

    def _result(
        self, image: NDArray[np.uint8], fitted: tuple[NDArray[np.uint8], Placement], labels: PixelLabels
    ) -> Segmentation:
        canvas, placement = fitted
        try:
            found = image_labels(labels, placement, self.task.class_names, self.resize, self.refine, image)
        except NotFiniteError as error:
            raise NotFiniteError(f"{error}; load the model with dtype='float32' or 'bfloat16'") from None
        return Segmentation(
            image=image,
            mask=found.mask,
            statistics=found.statistics,
            task=self.task,
            _labels=labels,
            _placement=placement,
            _segmenter=self.segmenter,
            _canvas=canvas,
            _resize=self.resize,
            _finer=self.finer,
            _tiles=self.tile is not None,
        )


def load(
    model: str | PathLike[str],
    *,
    device: str | None = None,
    dtype: DType = "float32",
    batch_size: int | None = None,
    resize: Resize | None = None,
    refine: Refine | None = None,
    average: Average | None = None,
    tile: float | None = None,
    fit: FitMode | None = None,
) -> ImageSegmenter:
    """Loads a model bundle by name ("avatars-10"), path or URI.

    `device` is by default a GPU if there is one, else the CPU. `batch_size` is the number of (image, diffusion step)
    pairs in the network at once; by default as many as fit in memory. `resize`, `refine`, `average`, `tile` and
    `fit` are those of jobs.label, which writes the same masks. Raises `ddpm_seg.model.errors.BundleError` if there is
    no bundle or it is damaged, ValueError for an option that does not exist and for a `tile` outside (0, 1] or with
    shifts.
    """
    check_choice("dtype", dtype, DType)
    check_choice("resize", resize, Resize)
    check_choice("refine", refine, Refine)
    check_choice("average", average, Average)
    check_choice("fit", fit, FitMode)
    check_tile(tile, average, dashes="")
    bundle = load_model(fspath(model))
    features = bundle.features if isinstance(bundle, Bundle) else None
    resize, refine, average = as_tuned(features, resize, refine, average, tiles=tile is not None)
    on_device = resident(bundle, device=device, dtype=dtype, batch_size=batch_size, average=average)
    fit = chosen_fit(fspath(model), bundle.provenance, fit)
    return ImageSegmenter(on_device, resize or "bilinear", refine, fit, finer(average), tile)


def _to_rgb(image: ImageLike) -> NDArray[np.uint8]:
    if isinstance(image, (str, PathLike)):
        return _read(fspath(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise TypeError(f"an image array must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        return np.array(image)  # a copy: the result must stay as it is if the caller reuses the array, as for frames
    raise TypeError(f"an image is a path, a URI, a PIL image or an (H, W, 3) uint8 array, not {type(image).__name__}")


def _read(uri: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8. What is wrong with a file is said with its name: it may be one of a list."""
    try:
        return read_apart(read_image(uri, listed=False)[0]).pixels
    except ImageError as error:
        raise ImageError(error.error_type, f"{storage.redact(uri)}: {error}") from error
    except ContainerError as error:
        raise ContainerError(f"{storage.redact(uri)}: {error}") from error
