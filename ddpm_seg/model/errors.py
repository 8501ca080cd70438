"""Errors about opening models."""

from __future__ import annotations


class BundleError(ValueError):
    """A bundle that is missing, incomplete or inconsistent."""


class ModelChangedError(BundleError):
    """A bundle that exists but is not the model that was asked for."""
