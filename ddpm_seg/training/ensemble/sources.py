"""What the features of an annotated image are read from: its pixels, or the sample that a network draws again.

A network that gives features only of the images that it draws is trained on annotated samples of its own. Each is known
by its name, `sample:SEED/NUMBER`, and is compared with the annotated picture before anything is learnt from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.sample_names import SampleFinder, SampleName
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.fitting_batch import fitting_pairs
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.resident import resident_drawer, resident_extractor
from ddpm_seg.model.samples.drawing import Drawer
from ddpm_seg.model.samples.sampling import SamplingConfig

Source: TypeAlias = NDArray[np.uint8] | SampleName
"""An image (S, S, 3) uint8, or a sample."""

MOST_DIFFERENCE = 4.0
"""Mean absolute difference of bytes between a sample and its annotated picture: a JPEG passes, another sample not."""
SHOWN_PROBLEMS = 20


def sources_of(bundle: Bundle, annotations: Sequence[Annotation]) -> list[Source]:
    """What each annotation's features are read from. Raises AnnotationError for what must be a sample and is none."""
    if bundle.network.reads_images:
        return [annotation.image for annotation in annotations]
    finder = SampleFinder()
    found = [finder.find(annotation.uri) for annotation in annotations]
    strange = [one.origin for one, sample in zip(annotations, found, strict=True) if sample is None]
    if strange:
        raise AnnotationError(
            f"{_some(strange)}: not known as samples, and a {bundle.network.title} gives features only of the images "
            "that it draws; expected the name sample:SEED/NUMBER in the column uri of a table, or images/ of "
            "ddpm-seg export --samples beside its pictures.csv"
        )
    return [sample for sample in found if sample is not None]


def feature_reader(
    bundle: Bundle, truncation: float | None, device: str
) -> Callable[[Source, FeatureConfig], list[Tensor]]:
    """Loads the bundle's network; reads the maps of one source, each (1, C, h, w) in the order of an `Extractor`."""
    if bundle.network.reads_images:
        extract = resident_extractor(bundle, device)
        pairs = fitting_pairs(bundle.network.peak_values, torch.float32.itemsize, torch.device(device))

        def of_image(image: Source, features: FeatureConfig) -> list[Tensor]:
            assert isinstance(image, np.ndarray)  # of `sources_of`
            return extract(image[None], features, micro_batch=pairs)

        return of_image
    drawer = _drawer(bundle, truncation, device)

    def of_sample(sample: Source, features: FeatureConfig) -> list[Tensor]:
        assert isinstance(sample, SampleName)  # of `sources_of`
        (drawn,) = drawer.draw(sample.seed, [sample.number], features)
        assert drawn.maps is not None  # asked for
        return drawn.maps

    return of_sample


def refuse_other_pictures(
    bundle: Bundle, annotations: Sequence[Annotation], truncation: float | None, device: str
) -> None:
    """Draws the annotated samples again. Raises AnnotationError, naming them, for those that show another picture."""
    drawer = _drawer(bundle, truncation, device)
    problems = []
    for annotation, sample in zip(annotations, sources_of(bundle, annotations), strict=True):
        assert isinstance(sample, SampleName)
        ((image, _),) = drawer.draw(sample.seed, [sample.number])
        if image is None:
            problems.append(f"{annotation.origin}: {sample} of this bundle has values that are not finite")
            continue
        difference = np.abs(image.astype(np.int16) - annotation.image).mean()
        if difference > MOST_DIFFERENCE:
            problems.append(
                f"{annotation.origin}: it shows another picture than {sample} of this bundle, from which it differs by "
                f"{difference:.1f} of 255 on average"
            )
    if problems:
        raise AnnotationError(
            f"{_some(problems)}; expected the picture as it was drawn: by this model, and at this --truncation "
            f"({drawn_at(truncation)})"
        )


def drawn_at(truncation: float | None) -> str:
    return "the network's own" if truncation is None else f"{truncation:g}"


def _drawer(bundle: Bundle, truncation: float | None, device: str) -> Drawer:
    return resident_drawer(bundle, SamplingConfig(truncation=truncation), device)


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - SHOWN_PROBLEMS} more" if len(texts) > SHOWN_PROBLEMS else ""
    return "; ".join(texts[:SHOWN_PROBLEMS]) + more
