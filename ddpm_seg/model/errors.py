"""What a model cannot be opened for."""

from __future__ import annotations


class BundleError(ValueError):
    """A bundle that is not there, not whole, or contradicts itself."""


class ModelChangedError(BundleError):
    """A bundle that is there, but is another model than the one that was asked for."""
