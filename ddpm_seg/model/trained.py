"""Opens any model that labels images, a network with its ensemble or a student, as its `bundle.json` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ddpm_seg import storage
from ddpm_seg.fits import Average
from ddpm_seg.model.averaged import Averaged
from ddpm_seg.model.bundle.calibration import CALIBRATION
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, BundleHeader, bundle_of, header_of
from ddpm_seg.model.bundle.files import read_content
from ddpm_seg.model.device.dtypes import DType, without_int8
from ddpm_seg.model.errors import BundleError, ModelChangedError
from ddpm_seg.model.network import require_images
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.tasks import Task

if TYPE_CHECKING:
    from ddpm_seg.model.bundle.student_bundle import StudentBundle, StudentHeader
    from ddpm_seg.model.student_segmenter import StudentSegmenter

    TrainedHeader: TypeAlias = BundleHeader | StudentHeader
    ResidentModel: TypeAlias = Segmenter | StudentSegmenter | Averaged

# Students are imported where they are used: torchvision takes a second to import, and other models do not need it.


def read_trained_header(name_or_uri: str) -> tuple[TrainedHeader, Task]:
    """The description of a bundle that can label, and its task. Raises BundleError if it has no ensemble."""
    uri, content = read_content(name_or_uri)
    if _is_student(content):
        from ddpm_seg.model.bundle.student_bundle import student_header_of

        student = student_header_of(uri, content)
        return student, student.task
    header = header_of(uri, content)
    if header.task is None or not header.num_members:
        raise BundleError(
            f"{name_or_uri} holds a {header.network.title} without an ensemble; train one with `ddpm-seg train`"
        )
    require_images(header.network)
    return header, header.task


def check_dtype(header: TrainedHeader, dtype: DType) -> None:
    """Raises ValueError for a number format that the network cannot run in."""
    if isinstance(header, BundleHeader):
        header.network.check_dtype(dtype)
    else:
        without_int8(dtype, "student")


def calibration_digest(header: TrainedHeader) -> str | None:
    """What the bundle's confidence depends on beside its `model_id`; None for one that is not calibrated."""
    return header.calibration.digest if isinstance(header, BundleHeader) and header.calibration else None


def refuse_another_calibration(name_or_uri: str, model: Bundle | StudentBundle, digest: str | None) -> None:
    """Raises ModelChangedError unless the bundle's calibration has this `digest`."""
    calibration = model.calibration if isinstance(model, Bundle) else None
    if (calibration.digest if calibration else None) != digest:
        raise ModelChangedError(
            f"{storage.redact(name_or_uri)}/{CALIBRATION} has changed since the run began; restore it to continue"
        )


def load_model(name_or_uri: str, model_id: str | None = None) -> Bundle | StudentBundle:
    """Any bundle with its tensors, each file checked against its sha256.

    Raises BundleError; ModelChangedError if its id is not `model_id`, or if it is replaced while being read.
    """
    uri, content = read_content(name_or_uri)
    if _is_student(content):
        from ddpm_seg.model.bundle.student_bundle import student_of

        return student_of(uri, content, model_id)
    return bundle_of(uri, content, model_id)[1]


def resident(
    model: Bundle | StudentBundle,
    *,
    device: str | None = None,
    dtype: DType = "float32",
    batch_size: int | None = None,
    compile: bool = False,
    average: Average = "none",
) -> ResidentModel:
    """`model` loaded on `device`; None means a GPU if there is one, else the CPU. `average` makes it an `Averaged`.

    Raises BundleError without an ensemble and for a network that does not read images, ValueError for int8 where it
    cannot run.
    """
    if isinstance(model, Bundle):
        require_images(model.network)
        segmenter = Segmenter(model, device=device, dtype=dtype, batch_size=batch_size, compile=compile)
        return segmenter if average == "none" else Averaged(segmenter, average)
    from ddpm_seg.model.student_segmenter import StudentSegmenter

    student = StudentSegmenter(
        model, device=device, dtype=without_int8(dtype, "student"), batch_size=batch_size, compile=compile
    )
    return student if average == "none" else Averaged(student, average)


def _is_student(content: Mapping[str, Any]) -> bool:
    return "student" in content
