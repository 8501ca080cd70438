"""About four hundred malformed files: truncated, flipped, spliced, misnamed, decompression bombs, and odd names."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from ddpm_seg.data.inputs.hidden import is_hidden_below
from tests.odd_images import encode, exif, picture, png_header

SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "TIFF": ".tif", "BMP": ".bmp", "PPM": ".ppm"}

# Pillow writes and reads these too; none of them is allowed.
OTHER_FORMATS = ("DDS", "EPS", "ICNS", "ICO", "JPEG2000", "MSP", "PCX", "QOI", "SGI", "SPIDER", "TGA")

# As file systems take any bytes but "/" and NUL.
HOSTILE_NAMES = (
    b"line\nbreak.png",
    b"carriage\rreturn.png",
    b"tab\tand bell\x07.png",
    b"\x1b[31mred\x1b[0m.png",
    b"\x7f\x01\x02.png",
    b"'; DROP TABLE labels; --.png",
    b"\"double\" and 'single'.png",
    b"$(touch pwned) `touch pwned`.png",
    b"; touch pwned &.png",
    b"| touch pwned.png",
    b"-rf.png",
    b"--output=pwned.png",
    b"~root.png",
    b"$HOME.png",
    b"back\\slash\\..\\pwned.png",
    b"..\\..\\pwned.png",
    b"....png",
    b"..%2f..%2fpwned.png",
    b"%2e%2e%2fpwned.png",
    b"%00.png",
    b"%s%n%d{0}.png",
    b"{{7*7}}{% raw %}.png",
    b"<script>alert(1)<!--.png",
    b"<img src=x onerror=alert(1)>.png",
    b"&amp;&lt;.png",
    b"=HYPERLINK(1).png",
    b"*.png",
    b"[a-z]?.png",
    b"#fragment.png",
    b"query?versionId=1.png",
    b"s3:bucket::file:x.png",
    b"run=..%2f.png",
    b"shard-00000.parquet.png",
    b" leading and trailing .png",
    b"CON.png",
    b".hidden.png",
    b"\xff\xfe not utf-8.png",
    b"\xc3\x28 broken utf-8.png",
    b"\xed\xa0\x80 surrogate.png",
    b"\xc0\xae\xc0\xae overlong.png",
    "\u202egnp.exe turned.png".encode(),
    "zero\u200bwidth\ufeff.png".encode(),
    "line\u2028separator\u0085.png".encode(),
    "e\u0301 combined.png".encode(),
    "\u00e9 composed.png".encode(),
    "\u0430 homoglyph.png".encode(),
    "\U0001f469\u200d\U0001f52c.png".encode(),
    ("z" + "\u0300" * 100 + ".png").encode(),
    b"long" * 62 + b"lon.png",  # 255 bytes, the most there is
)


def sources() -> dict[str, tuple[str, bytes]]:
    """Kind -> (format, a file as it should be): the formats that are read, in the ways they are usually written."""
    rgb = Image.fromarray(picture(19, 23))
    turned, grey = rgb.rotate(180), rgb.convert("L")
    deep = Image.fromarray(picture(19, 23)[:, :, 0].astype(np.uint16) * 257)
    ways: dict[str, tuple[str, bytes]] = {
        "baseline": ("JPEG", encode(rgb, "JPEG", exif=exif(6))),
        "progressive": ("JPEG", encode(rgb, "JPEG", progressive=True, comment=b"c" * 50)),
        "cmyk": ("JPEG", encode(rgb.convert("CMYK"), "JPEG")),
        "rgb": ("PNG", encode(rgb, "PNG", exif=exif(3))),
        "palette": ("PNG", encode(rgb.quantize(8), "PNG", transparency=3)),
        "deep": ("PNG", encode(deep, "PNG")),
        "bilevel": ("PNG", encode(rgb.convert("1"), "PNG")),
        "lossy": ("WEBP", encode(rgb, "WEBP")),
        "lossless": ("WEBP", encode(rgb, "WEBP", lossless=True, exif=exif(8))),
        "frames": ("WEBP", encode(rgb, "WEBP", save_all=True, append_images=[turned])),
        "still": ("GIF", encode(rgb.quantize(16), "GIF")),
        "animated": ("GIF", encode(rgb.quantize(16), "GIF", save_all=True, append_images=[turned.quantize(8)])),
        "raw": ("TIFF", encode(rgb, "TIFF", exif=exif(5))),
        "lzw": ("TIFF", encode(rgb, "TIFF", compression="tiff_lzw")),
        "jpeg": ("TIFF", encode(rgb, "TIFF", compression="jpeg")),
        "fax": ("TIFF", encode(rgb.convert("1"), "TIFF", compression="group4")),
        "float": ("TIFF", encode(rgb.convert("F"), "TIFF", compression="tiff_adobe_deflate")),
        "colour": ("BMP", encode(rgb, "BMP")),
        "indexed": ("BMP", encode(rgb.quantize(8), "BMP")),
        "binary": ("PPM", encode(rgb, "PPM")),
        "text": ("PPM", b"P3 4 3 255\n" + b" ".join(b"%d" % (7 * value) for value in range(36))),
        "grey": ("PPM", encode(grey, "PPM")),
    }
    return ways


def malformed_files(seed: int = 0) -> dict[bytes, bytes]:
    """Name -> bytes; the same for the same seed."""
    rng = np.random.default_rng(seed)
    files: dict[bytes, bytes] = {}
    for index, (name, data) in enumerate(
        [*_cut(rng), *_flipped(rng), *_spliced(rng), *_misnamed(), *_blank(), *_bombs(), *_absurd()]
    ):
        files[f"{index:03d} {name}".encode()] = data
    whole = encode(Image.fromarray(picture()), "PNG")
    # Of the names, every other one has a broken file, so that rows of errors hold them too.
    return files | {name: whole[: None if i % 2 else 100] for i, name in enumerate(HOSTILE_NAMES)}


def _cut(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Within the signature, the header, the first and the last bytes of pixels, and in between."""
    for kind, (format, data) in sources().items():
        size = len(data)
        for start, stop in [(1, 8), (8, 30), (30, 60), (60, size // 2), (size // 2, size - 4), (size - 4, size)]:
            offset = int(rng.integers(min(start, size - 1), max(min(stop, size), min(start, size - 1) + 1)))
            yield f"{kind} cut at {offset}{SUFFIX[format]}", data[:offset]


def _flipped(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Some bits, in the header or anywhere."""
    for kind, (format, data) in sources().items():
        for reach, count in [(30, 1), (60, 1), (160, 2), (len(data), 1), (len(data), 20)]:
            damaged = bytearray(data)
            for _ in range(count):
                damaged[int(rng.integers(min(reach, len(data))))] ^= 1 << int(rng.integers(8))
            yield f"{kind} flipped {count} within {reach}{SUFFIX[format]}", bytes(damaged)


def _spliced(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """The beginning of one file and the rest of another, or noise."""
    kinds = sources()
    for kind, (format, data) in kinds.items():
        other, (_, rest) = list(kinds.items())[int(rng.integers(len(kinds)))]
        keep = int(rng.integers(8, min(60, len(data))))
        yield f"{kind} then {other}{SUFFIX[format]}", data[:keep] + rest[keep:]
        yield f"{kind} then noise{SUFFIX[format]}", data[:keep] + rng.bytes(400)


def _misnamed() -> Iterator[tuple[str, bytes]]:
    suffixes = [*SUFFIX.values()]
    for index, (kind, (format, data)) in enumerate(sources().items()):
        suffix = next(one for one in suffixes[index % 7 :] + suffixes if one != SUFFIX[format])
        yield f"{format} {kind}{suffix}", data
    for index, format in enumerate(OTHER_FORMATS):
        mode = {"MSP": "1", "SPIDER": "F"}.get(format, "RGB")
        yield f"{format}{suffixes[index % 7]}", encode(Image.fromarray(picture(32, 32)).convert(mode), format)
    nothing_like_it = {
        "page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "drawing": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        "archive": b"PK\x03\x04" + bytes(60),
        "program": b"\x7fELF\x02\x01\x01" + bytes(60),
        "script": b"#!/bin/sh\ntouch pwned\n",
        "pickle": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
        "ghost": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(pwned) (w) file closefile\n",
        "paper": b"%PDF-1.7\n1 0 obj <</S /JavaScript /JS (app.alert(1))>> endobj",
        "film": b"\0\0\0\x18ftypisom" + bytes(60),
        "phone": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    }
    for index, (name, data) in enumerate(nothing_like_it.items()):
        yield f"{name}{suffixes[index % 7]}", data


def _blank() -> Iterator[tuple[str, bytes]]:
    for suffix in SUFFIX.values():
        yield f"empty{suffix}", b""
        yield f"zeros{suffix}", bytes(3000)
    yield "one byte.png", b"\x89"
    yield "ones.jpg", b"\xff" * 3000
    yield "spaces.ppm", b"P6" + b" " * 3000
    yield "comment without end.ppm", b"P6 #" + b"x" * 3000


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that ask for much."""
    for width, height in [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 999_999_999), (10_001, 10_000)]:
        yield f"claims {width} x {height}.png", png_header(width, height)
    # The decoder takes room for all of it before it finds that the pixels are missing: the largest that is allowed.
    yield "claims the most.png", png_header(10_000, 10_000)
    yield "solid.png", encode(Image.new("1", (4000, 4000)), "PNG")
    yield "solid.tif", encode(Image.new("1", (4000, 4000)), "TIFF", compression="group4")
    yield "solid.gif", encode(Image.new("P", (2000, 2000)), "GIF")
    rgb = encode(Image.fromarray(picture()), "PNG")
    squeezed = zlib.compress(bytes(80_000_000), 9)
    for name, content in {"zTXt": b"Comment\0\0" + squeezed, "iCCP": b"icc\0\0" + squeezed, "IDAT": squeezed}.items():
        chunk = struct.pack(">I", len(content)) + name.encode() + content
        chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
        yield f"{name} of 80 MB.png", rgb[:33] + chunk + rgb[33:]
    yield "many scans.jpg", _many_scans()
    # 8 x 8 pixels in a compressed tile of 2 GB, which the decoder takes room for.
    tile = {259: (3, 1, 5), 322: (4, 1, 50_000), 323: (4, 1, 40_000), 324: (4, 1, 200), 325: (4, 1, 300)}
    yield "huge tile.tif", _tiff(8, 8, tile)


def _many_scans(times: int = 200) -> bytes:
    """A progressive JPEG that refines the same coefficients over and over."""
    data = encode(Image.new("L", (512, 512), 128), "JPEG", progressive=True)
    first, last = data.index(b"\xff\xda"), data.rindex(b"\xff\xda")
    return data[:first] + data[first:last] + data[last:-2] * times + data[-2:]


def _absurd() -> Iterator[tuple[str, bytes]]:
    """Headers whose numbers cannot be."""
    formats: dict[str, bytes] = {}
    for format, data in sources().values():
        formats.setdefault(format, data)
    for width, height in [(0, 0), (0, 9), (65535, 65535), (65535, 1)]:
        sof = formats["JPEG"].index(b"\xff\xc0") + 5
        yield f"{width} x {height}.jpg", _patched(formats["JPEG"], sof, struct.pack(">HH", height, width))
        yield f"{width} x {height}.gif", _patched(formats["GIF"], 6, struct.pack("<HH", width, height))
        yield f"{width} x {height}.tif", _tiff(width, height)
        yield f"{width} x {height}.ppm", b"P6 %d %d 255\n" % (width, height) + bytes(300)
    for width, height in [(0, 0), (-1, 9), (9, -(2**31)), (2**31 - 1, 2**31 - 1)]:
        yield f"{width} x {height}.bmp", _patched(formats["BMP"], 18, struct.pack("<ii", width, height))
        yield f"{width} x {height}.png", png_header(width & 0xFFFFFFFF, height & 0xFFFFFFFF)
    yield "16384 x 16384.webp", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0"
    for tag, kind, count, value in [(273, 4, 2**32 - 1, 8), (279, 4, 1, 2**32 - 1), (258, 3, 2**31, 8), (259, 3, 1, 9)]:
        yield f"tag {tag} of {count}.tif", _tiff(8, 8, {tag: (kind, count, value)})
    yield "a directory that follows itself.tif", _tiff(8, 8, next_directory=8)
    yield "digits.ppm", b"P6 " + b"9" * 5000 + b" 1 255\n"
    yield "minus.ppm", b"P6 -4 -4 255\n" + bytes(48)


def _patched(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def _tiff(
    width: int, height: int, odd: dict[int, tuple[int, int, int]] | None = None, next_directory: int = 0
) -> bytes:
    """A grey TIFF of 300 bytes of pixels; `odd` replaces or adds tags (type, count, value)."""
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 200), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, 64)}
    tags |= odd or {}
    directory = b"".join(struct.pack("<HHII", tag, *rest) for tag, rest in sorted(tags.items()))
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + directory + struct.pack("<I", next_directory)
    return head.ljust(200, b"\0") + bytes(300)


def write_malformed(folder: Path, seed: int = 0) -> list[Path]:
    """Writes the files, and folders, links and a pipe named like images; returns what a listing must hold, sorted.

    A folder has no row, what is in it has, once, whatever links lead to it; a link to a file is a file; hidden names,
    links that lead nowhere or to themselves, and pipes, are none of it.
    """
    folder.mkdir(parents=True)
    files = malformed_files(seed)
    for name, data in files.items():
        (folder / os.fsdecode(name)).write_bytes(data)
    listed = [folder / os.fsdecode(name) for name in files]
    whole = encode(Image.fromarray(picture()), "PNG")
    for name in ("folder.png", "..png", "folder with\nline break.jpg"):
        (folder / name).mkdir()
        (folder / name / "inside.png").write_bytes(whole)
        listed.append(folder / name / "inside.png")
    (folder / "empty folder.gif").mkdir()
    for link, target in {"link.png": "folder.png/inside.png", "link to nonsense.png": os.fsdecode(b"*.png")}.items():
        (folder / link).symlink_to(target)
        listed.append(folder / link)
    (folder / "link to a folder.png").symlink_to("folder.png")
    for link, target in {
        "nowhere.png": "gone",
        "loop.png": "loop.png",
        "up.png": ".",
        "device.png": os.devnull,
    }.items():
        (folder / link).symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    return sorted((path for path in listed if not is_hidden_below(str(path), str(folder))), key=str)


def readable_after_all(data: bytes) -> bool:
    """Whether strict Pillow refuses the file for what is not its picture: metadata, an end mark, its own lack."""
    if data.startswith(b"\x89PNG"):
        place, critical = 8, [data[:8]]
        while place + 8 <= len(data):
            end = place + 12 + int.from_bytes(data[place : place + 4], "big")
            if data[place + 4 : place + 5].isupper():
                critical.append(data[place:end])
            place = end
        return strict_pillow_reads(b"".join(critical), ("PNG",), 10**8)
    if data.startswith(b"\xff\xd8"):
        return any(data in (whole[:-1], whole[:-2]) for format, whole in sources().values() if format == "JPEG")
    if data[:4] in (b"II*\0", b"MM\0*"):
        try:
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                return file.pages[0].asarray().size > 0
        except Exception:  # as with Pillow
            return False
    return False


def strict_pillow_reads(data: bytes, formats: tuple[str, ...], max_pixels: int) -> bool:
    """Whether Pillow alone, with no word from this project, decodes all of the first frame."""
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height > max_pixels:
                return False
            image.load()
            return True
    except Exception:  # Pillow has no end of them
        return False
