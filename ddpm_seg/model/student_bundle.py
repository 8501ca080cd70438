"""A student on disk: `bundle.json` with a "student", beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.bundle_files import (
    SCHEMA_VERSION,
    BundleError,
    another_stands,
    bundle_stands,
    check_shapes,
    digests,
    load_files,
    model_id_of,
    publish,
    read_content,
    refuse_another_model,
    refuse_missing_files,
    staged_weights,
)
from ddpm_seg.model.student import StudentConfig, student_shapes
from ddpm_seg.tasks import Task

WEIGHTS = "student.safetensors"


@dataclass(frozen=True, kw_only=True)
class StudentHeader:
    """What `bundle.json` says: everything but the tensors."""

    student: StudentConfig
    task: Task
    files: Mapping[str, str]
    """sha256 of the weights file, by name."""
    provenance: Mapping[str, Any]

    @property
    def model_id(self) -> str:
        """16 hex digits over everything that can change an output: architecture, task and weights."""
        return model_id_of(self.to_json())

    @property
    def image_size(self) -> int:
        """Side of the network's square input."""
        return self.student.image_size

    def to_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "student": asdict(self.student),
            "task": self.task.to_dict(),
            "input_size": self.image_size,
            "files": dict(self.files),
            "provenance": dict(self.provenance),
        }


@dataclass(frozen=True, kw_only=True)
class StudentBundle:
    """A student in memory."""

    student: StudentConfig
    weights: Mapping[str, Tensor]
    """State dict of `Student`."""
    task: Task
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.student.num_classes != self.task.num_classes:
            raise BundleError(f"{self.student.num_classes} outputs for the {self.task.num_classes} classes of the task")
        check_shapes("student", self.weights, student_shapes(self.student))


def save_student(bundle: StudentBundle, uri: str) -> StudentHeader:
    """Writes `bundle` under `uri`. Raises FileExistsError where another bundle stands; the same one is left alone."""
    with staged_weights({WEIGHTS: bundle.weights}) as paths:
        header = StudentHeader(
            student=bundle.student, task=bundle.task, files=digests(paths), provenance=bundle.provenance
        )
        if not bundle_stands(uri):
            publish(uri, paths, header.to_json())
        elif model_id_of(read_content(uri)[1]) != header.model_id:
            raise another_stands(uri)
    return header


def read_student_header(name_or_uri: str) -> StudentHeader:
    """The description of a student, without its tensors. Raises BundleError, naming what is wrong and where."""
    return student_header_of(*read_content(name_or_uri))


def student_header_of(uri: str, content: dict[str, Any]) -> StudentHeader:
    """`read_student_header` of the bundle at `uri` whose bundle.json is `content`."""
    try:
        header = StudentHeader(
            student=StudentConfig(**content["student"]),
            task=Task.from_dict(content["task"]),
            files=content["files"],
            provenance=content["provenance"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{storage.redact(uri)}/bundle.json: {type(error).__name__}: {error}") from error
    refuse_missing_files(uri, header.files, [WEIGHTS])
    return header


def load_student(name_or_uri: str, model_id: str | None = None) -> StudentBundle:
    """The student with its tensors, checked against their sha256.

    Raises BundleError; ModelChangedError where it is another than `model_id`, or is replaced while it is read.
    """
    return student_of(*read_content(name_or_uri), model_id)


def student_of(uri: str, content: dict[str, Any], model_id: str | None) -> StudentBundle:
    """`load_student` of the bundle at `uri` whose bundle.json is `content`."""
    header = student_header_of(uri, content)
    refuse_another_model(uri, header.model_id, model_id)
    weights = load_files(uri, content, {WEIGHTS: header.files[WEIGHTS]})[WEIGHTS]
    return StudentBundle(student=header.student, weights=weights, task=header.task, provenance=header.provenance)
