"""Files that Pillow refuses although their pixels are all there: broken metadata, a missing end mark."""

from __future__ import annotations

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
# What pixels need, and the orientation. Text, colour profiles, animation and the like are left out.
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf")


def png_without_metadata(data: bytes) -> bytes | None:
    """The same picture without what is not needed to show it; None where there is nothing to leave out."""
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
    """The JPEG with an end mark after bits of several kinds; empty where it has one, or has several passes.

    If all of them show the same picture, no bit of it was missing. Cameras and streams do forget the mark.
    """
    if not data.startswith(b"\xff\xd8") or data.rstrip(b"\0").endswith(b"\xff\xd9") or not _single_pass(data):
        return []
    # Half a mark goes, so that no fill becomes its other half.
    return [data.rstrip(b"\xff") + fill * 64 + b"\xff\xd9" for fill in (b"", b"\x00", b"\x55", b"\xaa", b"\xff\x00")]


def _single_pass(data: bytes) -> bool:
    """Whether the first scan has all the components of a picture that is not progressive."""
    place, components = 2, 0
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in (0xC0, 0xC1) and place + 9 < len(data):
            components = data[place + 9]
        if marker == 0xDA:
            return place + 4 < len(data) and data[place + 4] == components
        place += 2 + length
    return False
