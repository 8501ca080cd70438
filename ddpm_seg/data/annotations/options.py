"""Flags that several jobs share: how to read annotations whose files leave something open."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.tasks import UNLABELLED, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationOptions:
    """Where the images are and what uncovered pixels mean, for annotation files that do not say."""

    image_root: str | None = None
    """Folder or URI prefix of the images that an annotation file (COCO, Label Studio, LabelMe, CVAT, Parquet) names.
    Default: that file's own folder, its folder images/, and where COCO's datasets keep them. An image that is not there
    is searched for by name in all folders below, but `train/1.jpg` is not taken for `val/1.jpg`."""
    uncovered: str | None = None
    """Name of the class for pixels that no object in a COCO, Label Studio, LabelMe, CVAT, VOC or YOLO export covers,
    such as background. Default: no class; such pixels are neither trained nor scored on."""

    def uncovered_id(self, task: Task) -> int:
        """The class id for uncovered pixels; `UNLABELLED` by default. Raises AnnotationError for an unknown class."""
        if self.uncovered is None:
            return UNLABELLED
        if self.uncovered not in task.class_names:
            raise AnnotationError(
                f"--uncovered {self.uncovered!r} is not a class of {task.name}; its classes are "
                f"{', '.join(task.class_names)}"
            )
        return task.class_names.index(self.uncovered)


DEFAULT_OPTIONS = AnnotationOptions()
