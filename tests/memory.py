"""How much memory this process holds, and has held at most.

Never `ru_maxrss`: a program that another one starts begins with the most that its parent has held, so that a test would
measure the tests before it.
"""

from __future__ import annotations

from pathlib import Path


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    return _bytes("VmHWM")


def held_memory() -> int:
    """Bytes that this process holds now."""
    return _bytes("VmRSS")


def _bytes(name: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) * 1024
