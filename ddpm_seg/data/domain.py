"""Column `domain_distance`: how far an image lies from the training images, in the features of the model's network."""

from __future__ import annotations

OUTSIDE = 1.4
"""Images with a larger distance are outside: the model names things in them that it has never seen. Of images like
those trained on about one in a hundred is (tests/README.md)."""

WARN_SHARE = 0.1
"""A run warns if a larger share of its images is outside."""
