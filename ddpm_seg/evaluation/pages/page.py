"""What all pages share: their style (`page.html`) and the formatting of numbers."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from ddpm_seg.durations import duration


@cache
def template(name: str) -> jinja2.Template:
    """The template of that name beside this file; its filters are the functions below."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, short=short, share=share, duration=duration, number=number, middle=middle)
    return environment.get_template(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """The page's only script; its Content-Security-Policy admits it by `sha256`."""

    text: str
    sha256: str


@cache
def review_script() -> Script:
    """The scripts of pages with the controls and the sheet of `tiles.html`: first the verdicts, by which the other can
    filter."""
    text = "".join((Path(__file__).parent / name).read_text() for name in ("verdicts.js", "review.js"))
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(text=text, sha256=f"sha256-{digest}")


def count(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")  # a narrow no-break space separates thousands


def short(number: float) -> str:
    """1234567 as 1.23M."""
    for unit, suffix, least in ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "k", 1e4)):
        if number >= least * 0.9995:  # what is rounded up to the next unit is written in it
            return f"{number / unit:.3g}{suffix}"
    return f"{number:,.0f}".replace(",", "\u202f") if number >= 100 or number == int(number) else f"{number:.3g}"


def share(fraction: float) -> str:
    """A fraction as a percentage with one decimal; "< 0.1 %" and "> 99.9 %" where that would look like none and all."""
    if 0 < fraction < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= fraction < 1:
        return "> 99.9 %"
    return f"{fraction * 100:.1f} %"


def number(value: float) -> str:
    return f"{value:#.3g}"


def middle(text: str, longest: int = 56) -> str:
    """`text`, without the middle if it is longer than `longest`: the beginning and the end tell paths apart."""
    if len(text) <= longest:
        return text
    end = max(longest * 2 // 3, longest - 24)
    return f"{text[: longest - end - 1]}…{text[-end:]}"
