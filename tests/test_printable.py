from __future__ import annotations

import io
import logging

import pytest

from ddpm_seg.data.decoding.images import ImageError, decode
from ddpm_seg.printable import PrintableFormatter, printable

EVIL = "a\x1b[2Jb\nfake line\r\x9b31m\u202egnp.exe\u2028\udcff\u200b"


def test_nothing_moves_the_cursor_or_begins_a_line() -> None:
    assert printable(EVIL) == r"a\x1b[2Jb\nfake line\r\x9b31m\u202egnp.exe\u2028\udcff\u200b"
    assert printable(EVIL, keep="\n") == printable(EVIL).replace(r"\n", "\n")
    for name in ("Bäume im März.png", "写真.png", "a\u3000b\xa0c.png", ""):
        assert printable(name) == name


def test_a_log_shows_names_in_arguments_and_messages_safely() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("%s: %s; %d tries in %.1f s", EVIL, OSError(EVIL), 3, 0.5)
    logger.warning("a worker failed\n%s", "Traceback:\n  line\x1b[31m")
    try:
        raise ValueError("x\x1b")
    except ValueError:
        logger.exception("oh")
    lines = stream.getvalue().split("\n")
    assert lines[0].startswith(r"WARNING a\x1b[2Jb\nfake line")
    assert lines[0].endswith("3 tries in 0.5 s")
    assert lines[1:4] == ["WARNING a worker failed", "Traceback:", r"  line\x1b[31m"]
    assert lines[4] == "ERROR oh"
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    "data", [b"root:x:hunter2", b"P2 hunter2hunter2 3", b"P2 2 2 255 hunter2 1 1 1", b"P1\n2 2\nhunter2", b"P5 hunter2"]
)
def test_an_images_error_quotes_nothing_of_the_file(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert "hunter2" not in str(caught.value)
    assert "root" not in str(caught.value)
