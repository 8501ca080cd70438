"""Durations in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Such as "1.50 s", "12.3 s", "3 min 05 s" or "2 h 07 min"."""
    if seconds < 60:
        return f"{seconds:#.3g} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
