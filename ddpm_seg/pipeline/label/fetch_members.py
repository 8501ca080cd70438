"""Reads and decodes a chunk of images that lie in one container: together, and of the version that was planned."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace

from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.members import fault_of, read_places
from ddpm_seg.pipeline.label.fit_read import fit_all_read
from ddpm_seg.pipeline.label.rows import FittedImage, ImageInput, LabelSpec, Read, failed
from ddpm_seg.storage import allow_local_hosts


def fetch_members(inputs: list[ImageInput], spec: LabelSpec, decoders: Executor) -> list[FittedImage]:
    """The images in order. If the container was replaced or cannot be opened, a single one that says so.

    Raises what `rows.fetch` raises.
    """
    allow_local_hosts(spec.allow_local_hosts)
    try:
        return fit_all_read(_read(inputs, spec), spec, decoders)
    except OSError as error:
        if sources.is_outage(error, inputs[0].read_uri):
            raise
        return [_container_row(inputs[0], error)]


def _read(inputs: list[ImageInput], spec: LabelSpec) -> Iterator[Read]:
    """Each image with its bytes, or why it cannot be read; None for one that planning has refused.

    Where the container is damaged, only the image there is at fault: the next ones are tried. Raises OSError if the
    container cannot be opened or was replaced.
    """
    start = 0
    while start < len(inputs):
        left = [source for source in inputs[start:] if source.refused is None]
        places = [source.place for source in left if source.place is not None]
        found = read_places(places, spec.limits.max_bytes) if places else iter(())
        try:
            for source in inputs[start:]:
                data = None if source.refused is not None else next(found)
                start += 1
                yield source, data
            for _ in found:  # lets it check that the container has not changed
                raise AssertionError
        except ValueError as error:
            if start < len(inputs):
                yield inputs[start], error
                start += 1


def _container_row(source: ImageInput, error: OSError) -> FittedImage:
    place = source.place
    assert place is not None
    error_type, _, reason = fault_of(error).partition(": ")
    about = replace(
        source,
        image_id=source.container_id,
        uri=source.container,
        read_uri=place.container.uri,
        size_bytes=place.container.size_bytes,
    )
    return failed(about, error_type, ValueError(reason))
