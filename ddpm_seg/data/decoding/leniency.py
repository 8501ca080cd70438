"""Repairs files that Pillow refuses although all their pixels are there: broken metadata, a missing end mark."""

from __future__ import annotations

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks needed for the pixels and the orientation. Text, colour profiles, animation and the like are dropped.
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf")


def png_without_metadata(data: bytes) -> bytes | None:
    """The same PNG without chunks that are not needed to show it; None if there is nothing to drop."""
    if not data.startswith(_PNG):
        return None
    kept, place = [_PNG], len(_PNG)
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        chunk = data[place : place + 12 + length]
        if name in _NEEDED and not (name == b"eXIf" and _damaged(chunk)):
            kept.append(chunk)
        place += 12 + length
    lighter = b"".join(kept)
    return lighter if len(lighter) < len(data) else None


def _damaged(chunk: bytes) -> bool:
    return len(chunk) < 12 or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big")


def jpegs_with_an_end(data: bytes) -> list[bytes]:
    """The JPEG with an end mark after several kinds of padding; empty if it has an end mark, or several passes.

    If all of them show the same picture, no pixel data was missing. Some cameras and streams omit the mark.
    """
    if not data.startswith(b"\xff\xd8") or data.rstrip(b"\0").endswith(b"\xff\xd9") or not _single_pass(data):
        return []
    # Remove half a mark, so that no padding completes it.
    return [data.rstrip(b"\xff") + fill * 64 + b"\xff\xd9" for fill in (b"", b"\x00", b"\x55", b"\xaa", b"\xff\x00")]


def _single_pass(data: bytes) -> bool:
    """Whether the JPEG is not progressive and its first scan has all components."""
    place, components = 2, 0
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in (0xC0, 0xC1) and place + 9 < len(data):
            components = data[place + 9]
        if marker == 0xDA:
            return place + 4 < len(data) and data[place + 4] == components
        place += 2 + length
    return False
