"""Bundles of a student on disk: `bundle.json` with a "student", and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from torch import Tensor

from ddpm_seg.fits import recorded_fit
from ddpm_seg.model.bundle.files import SCHEMA_VERSION, check_input_size, model_id_of, read_content, read_files
from ddpm_seg.model.bundle.network_json import network_section
from ddpm_seg.model.bundle.stored_bundle import header_of, load_tensors, write_bundle
from ddpm_seg.model.bundle.weight_files import check_shapes
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.json_values import as_object, from_json
from ddpm_seg.model.networks.student import StudentConfig
from ddpm_seg.model.networks.unet_student import UNetStudentConfig
from ddpm_seg.model.shapes import shapes_of
from ddpm_seg.tasks import Task

WEIGHTS = "student.safetensors"
UNET_VERSION = 3
"""Schema version of a U-Net's bundle: earlier versions of this package know only DeepLabV3 and refuse it."""

AnyStudent: TypeAlias = StudentConfig | UNetStudentConfig


@dataclass(frozen=True, kw_only=True)
class StudentHeader:
    """The content of `bundle.json`: everything but the tensors."""

    student: AnyStudent
    task: Task
    files: Mapping[str, str]
    """sha256 of the weights file, by name."""
    provenance: Mapping[str, Any]

    @property
    def model_id(self) -> str:
        """16 hex digits, a hash of everything that can change an output: architecture, task and weights."""
        return model_id_of(self.to_json())

    @property
    def image_size(self) -> int:
        """Side of the network's square input."""
        return self.student.image_size

    def to_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        return {
            "schema_version": SCHEMA_VERSION if isinstance(self.student, StudentConfig) else UNET_VERSION,
            "student": asdict(self.student),
            "task": self.task.to_dict(),
            "input_size": self.image_size,
            "files": dict(self.files),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StudentHeader:
        """The header in `content`. Raises ValueError naming the key."""
        network_section(content)
        student = as_object(content.get("student"), "student")
        kind: type[AnyStudent] = UNetStudentConfig if "architecture" in student else StudentConfig
        header = cls(
            student=from_json(kind, student, "student"),
            task=Task.from_dict(as_object(content.get("task"), "task")),
            files=read_files(content, [WEIGHTS]),
            provenance=as_object(content.get("provenance"), "provenance"),
        )
        check_input_size(content, header.image_size)
        recorded_fit(header.provenance)
        _check_classes(header.student, header.task)
        return header

    def tensor_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shape of every tensor, by file and name. Raises BundleError for a network that cannot be built."""
        return {WEIGHTS: weight_shapes(self.student)}


@dataclass(frozen=True, kw_only=True)
class StudentBundle:
    """A student in memory."""

    student: AnyStudent
    weights: Mapping[str, Tensor]
    """State dict of `Student`."""
    task: Task
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_classes(self.student, self.task)
        check_shapes("student", shapes_of(self.weights), weight_shapes(self.student))


def save_student(bundle: StudentBundle, uri: str) -> StudentHeader:
    """Writes `bundle` under `uri`. Raises FileExistsError if another bundle exists there; an equal one is left
    alone."""

    def describe(files: Mapping[str, str]) -> StudentHeader:
        return StudentHeader(student=bundle.student, task=bundle.task, files=files, provenance=bundle.provenance)

    return write_bundle(uri, {WEIGHTS: bundle.weights}, describe)


def read_student_header(name_or_uri: str) -> StudentHeader:
    """The description of a student, without its tensors. Raises BundleError naming what is wrong and where."""
    return student_header_of(*read_content(name_or_uri))


def student_header_of(uri: str, content: dict[str, Any]) -> StudentHeader:
    """Like `read_student_header`, for the bundle at `uri` with this `content` of bundle.json."""
    return header_of(StudentHeader, uri, content)


def load_student(name_or_uri: str, model_id: str | None = None) -> StudentBundle:
    """The student with its tensors, each file checked against its sha256.

    Raises BundleError; ModelChangedError if its id is not `model_id`, or if it is replaced while being read.
    """
    return student_of(*read_content(name_or_uri), model_id)


def student_of(uri: str, content: dict[str, Any], model_id: str | None) -> StudentBundle:
    """Like `load_student`, for the bundle at `uri` with this `content` of bundle.json."""
    header = student_header_of(uri, content)
    weights = load_tensors(uri, content, header, model_id)[WEIGHTS]
    return StudentBundle(student=header.student, weights=weights, task=header.task, provenance=header.provenance)


def _check_classes(student: AnyStudent, task: Task) -> None:
    if student.num_classes != task.num_classes:
        raise BundleError(f"the student has {student.num_classes} classes, but the task has {task.num_classes}")
