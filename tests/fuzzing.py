"""Shared by the fuzzers: random changes of files, and limits on time and memory for reading them."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.memory import held_memory, peak_memory

T = TypeVar("T")

SECONDS, BYTES = 10, 2 * 2**30
FRESH = 600 * 2**20  # bytes that a process holds which has only imported what is fuzzed
"""Processor time, and memory, for one file."""
PATIENCE = 60
"""Seconds by the clock after which whoever reads is waiting for something: other work may slow down a machine."""

# What stands in for a value: other types, null, numbers without end, text that is none.
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 7, 1.5, -0.0, 1e-300, 1e300, 255, 256, 4096, 2**31, 2**63, 10**12, 10**400,
    float("nan"), float("inf"), "", "1", "null", "ä\u2028\x00", "\ud800", "../../dev/zero", "/etc/passwd", "a" * 5000,
    [], [None], [[]], [1] * 50, [0], [-1], [10**9], list(range(2000)), ["x"], {}, {"a": 1}, {"": {}},
    "cosine", "two\nlines\x1b[31m",
]  # fmt: skip


def run_as_asked(fuzz: Callable[[int, int, Path], T], description: str | None, *, count: int) -> T:
    """`fuzz(count, seed, folder)`, with --count and --seed of the command line and a folder that goes afterwards."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return fuzz(options.count, options.seed, Path(folder))


def change_values(content: Any, draw: random.Random, added: Sequence[str]) -> None:
    """Changes one to four values anywhere in the JSON value `content`; new keys are some of `added`."""
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        places = list(_places(content))
        if not places:
            return
        holder, key = draw.choice(places)
        what = draw.randrange(5)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[draw.choice(added)] = draw.choice(ODD)
        elif what == 2 and type(holder[key]) in (int, float):
            holder[key] = holder[key] * draw.choice([-1, 2, 10, 0.5, 1000, 10**6, 10**12])
        elif what == 3 and isinstance(holder[key], list) and holder[key]:
            holder[key] = draw.choice([holder[key] * 3, holder[key][:-1], holder[key] * 3000, [holder[key]]])
        else:
            holder[key] = draw.choice(ODD)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key of a JSON value; of the long lists the first ones."""
    keys = list(value) if isinstance(value, dict) else range(min(3, len(value)))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def change_bytes(data: bytes, draw: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled or replaced, or the end cut off."""
    kept = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        if not kept:
            break
        start = draw.randrange(len(kept))
        stop = min(len(kept), start + draw.choice([1, 1, 4, 40]))
        match draw.choice(["flip", "flip", "replace", "cut", "double", "end"]):
            case "flip":
                kept[start] ^= 1 << draw.randrange(8)
            case "replace":
                kept[start:stop] = draw.randbytes(stop - start)
            case "cut":
                del kept[start:stop]
            case "double":
                kept[start:start] = kept[start:stop]
            case "end":
                del kept[start:]
    return bytes(kept)


class TooSlow(BaseException):
    """More than PATIENCE; no Exception, so that nothing on the way takes it for its own."""


class Bounds:
    """Watches the files that this process opens, its memory and its time, from now on."""

    def __init__(self) -> None:
        self._opened: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            self._opened.append(os.fsdecode(arguments[0]))

    def keep(self, read: Callable[[], str], *folders: Path) -> str:
        """What `read` returns, or "FAULT: ..." where it raises, is slow or large, or opens what is not in `folders`.

        Python's modules and the repository's own files may be opened too.
        """
        # A process that has run other tests holds more to begin with than one that has only imported torch.
        most = max(peak_memory(), BYTES, held_memory() + BYTES - FRESH)
        begin = time.process_time()
        self._opened.clear()  # what is opened to read the peak is not the file's doing
        try:
            with _deadline():
                found = read()
        except TooSlow:
            return f"FAULT: not done after {PATIENCE} s"
        except (Exception, SystemExit) as error:
            return f"FAULT: {type(error).__name__}: {str(error)[:200]}"
        seconds = time.process_time() - begin
        allowed = (*(str(folder.resolve()) for folder in folders), sys.prefix, sys.base_prefix, str(Path.cwd()))
        if outside := [path for path in self._opened if not os.path.realpath(path).startswith(allowed)]:
            return f"FAULT: opened {outside[0]}"
        if peak_memory() > most:
            return f"FAULT: {peak_memory() / 2**30:.1f} GB"
        return "FAULT: too slow" if seconds > SECONDS else found


@contextmanager
def _deadline() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
