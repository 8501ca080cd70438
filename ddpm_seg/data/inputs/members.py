"""Looks into containers, and reads many of their images at once, always of the version that was planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.container import UNCHOSEN, Choice, IndexedContainer, Member
from ddpm_seg.storage import FileInfo


class ContainerChangedError(OSError):
    """A container is no longer the version that was planned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an image in a container is: the container, its version, and the range of its bytes, or its row."""

    container: FileInfo
    name: str
    start: int
    size: int

    @property
    def member(self) -> Member:
        return Member(name=self.name, start=self.start, size=self.size, end=self.start + self.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What is in a container: its version, its images, and why there may be more, if so ("error_type: reason")."""

    version: FileInfo
    members: Sequence[Member]
    fault: str = ""


def look_into(planned: FileInfo, choice: Choice) -> Found:
    """Finds all images in a container, of a kind that is indexed.

    Errors of the container are returned in the result. Raises only StorageUnavailableError, if a store does not answer.
    """
    members: list[Member] = []
    version = planned
    try:
        container, version = open_version(planned)
        with sources.damage_named(planned.uri):
            if not container.holds_images(choice):
                return Found(version=version, members=[], fault="no_images: it has no column of images")
            for member in container.members(choice):
                members.append(member)
        check_unchanged(version)
        if not members:
            chosen = " that was chosen" if choice != UNCHOSEN else ""
            return Found(version=version, members=[], fault=f"no_images: there is no image{chosen} in it")
    except (OSError, ValueError) as error:
        if sources.is_outage(error, planned.uri):
            raise
        return Found(version=version, members=members, fault=fault_of(error))
    return Found(version=version, members=members)


def read_places(places: Sequence[Place], max_bytes: int) -> Iterator[bytes | Exception]:
    """For each of these images of one container, in the order of the file, its bytes, or why it cannot be read.

    On S3, images of a tar that lie together are one ranged GET that only this version answers. Raises
    ContainerChangedError if the container has changed, also during the reading: then nothing that was read counts.
    Raises OSError or ValueError if it cannot be read on.
    """
    planned = places[0].container
    version: FileInfo | None = None
    try:
        container = sources.open_exactly(planned)
        if container is None:
            container, version = open_version(planned)
        with sources.damage_named(planned.uri):
            yield from container.read_members([place.member for place in places], max_bytes)
    except (OSError, ValueError) as error:
        if not sources.is_outage(error, planned.uri) and not isinstance(error, ContainerChangedError):
            check_unchanged(version or planned)  # a change is the cause, rather than damage
        raise
    if version is not None:
        check_unchanged(version)


def open_version(planned: FileInfo) -> tuple[IndexedContainer, FileInfo]:
    """Opens a container; also returns its version. Raises ContainerChangedError if that is not the planned one."""
    container, version = sources.open_indexed(planned.uri)
    if _stamp(planned) not in (_stamp(version), (None, None, None)):
        raise ContainerChangedError("the container was replaced since it was listed; the next run labels the new one")
    return container, version


def check_unchanged(version: FileInfo) -> None:
    """Raises ContainerChangedError if a file in a store that reads no particular version is not this version."""
    now = storage.info(version.uri, listed=True)
    if now != version and (now.etag is None or _stamp(now) != _stamp(version)):
        raise ContainerChangedError("the container was replaced while it was read; the next run labels the new one")


def fault_of(error: OSError | ValueError) -> str:
    """An error of a container as text: "error_type: reason"."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    kind = "changed" if isinstance(error, ContainerChangedError) else sources.error_type(error)
    return f"{kind}: {' '.join(reason.split())}"


def _stamp(file: FileInfo) -> tuple[object, ...]:
    """What tells versions apart: the ETag, or size and time where there is none."""
    if file.etag is not None:
        return file.etag, None, None
    return None, file.size_bytes, file.modified
