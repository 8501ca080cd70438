"""Reads an image again that was labelled, unless another has taken its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddpm_seg import storage
from ddpm_seg.data.decoding.images import ImageError
from ddpm_seg.data.inputs.sources import read_image

VERSION = ("etag", "size_bytes")
"""Columns of `labels` that say which version of an image a row is about."""


def read_labelled(uri: str, row: Mapping[str, Any]) -> bytes:
    """The bytes of the image at `uri`, if it is the one that `row` is about: by its columns `VERSION`, as far as they
    are there and known.

    Raises ImageError with the type `changed` if another image is there now, and what `read_image` raises.
    """
    data, version = read_image(uri)
    if is_another(uri, row, {name: getattr(version, name) for name in VERSION}):
        raise ImageError("changed", "the image has been replaced since it was labelled; label it again")
    return data


def is_another(uri: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two versions of what `uri` names, each with the columns `VERSION`, differ for certain.

    A web server may give every reader another ETag.
    """
    names = VERSION[1:] if storage.is_http(uri) else VERSION
    return any(None not in (one.get(name), other.get(name)) and one[name] != other[name] for name in names)
