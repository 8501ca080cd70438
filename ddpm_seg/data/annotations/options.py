"""How annotations are read, where the files leave it open: flags that several jobs share."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.tasks import UNLABELLED, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationOptions:
    """Where images are and what uncovered pixels mean, for annotation files that do not say."""

    image_root: str | None = None
    """Folder or prefix of the images that a COCO, Label Studio, CVAT or Parquet file names. Default: beside that file,
    in a folder next to it, or in the layout of COCO's own files."""
    uncovered: str | None = None
    """Class of the pixels that no object of a COCO, Label Studio or CVAT file covers, such as background. Default: they
    have no class, and are neither learnt from nor scored."""

    def uncovered_id(self, task: Task) -> int:
        """The class id of uncovered pixels; `UNLABELLED` by default. Raises AnnotationError for an unknown class."""
        if self.uncovered is None:
            return UNLABELLED
        if self.uncovered not in task.class_names:
            raise AnnotationError(
                f"--uncovered {self.uncovered!r} is no class of {task.name}; its classes are "
                f"{', '.join(task.class_names)}"
            )
        return task.class_names.index(self.uncovered)


DEFAULT_OPTIONS = AnnotationOptions()
