"""Errors of annotations."""

from __future__ import annotations


class AnnotationError(ValueError):
    """Annotations that cannot be used; the message names the file and what to change."""


class MaskError(ValueError):
    """A mask that cannot be used; the message continues a sentence that begins with the mask's name: "is ...", "has
    ..."."""
