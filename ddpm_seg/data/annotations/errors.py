"""What is wrong with annotations."""

from __future__ import annotations


class AnnotationError(ValueError):
    """Annotations that cannot be used; the message names the file and what to change."""


class MaskError(ValueError):
    """A mask that cannot be used; the message goes on after the mask's name: "is ...", "has ...", "holds ..."."""
