from __future__ import annotations

import html
import re

import pytest

from ddpm_seg.markdown_text import markdown_table
from ddpm_seg.tasks import TASKS

NAMES = [
    *(name for task in TASKS.values() for name in task.class_names),
    *(
        "a|b",
        "<b>bold</b>",
        "R&amp;D",
        "`code`",
        "_under_",
        "__init__",
        "~~gone~~",
        "[link](x)",
        "back\\",
        "two\nlines",
    ),
    *("été", "snow_and_ice", "=1+2", "2 * 3 * 4", "C:\\*"),
]


def test_every_name_is_shown_as_it_is() -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False})
    rendered = markdown.render(markdown_table(["name", "number"], ([name, str(i)] for i, name in enumerate(NAMES))))
    cells = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", rendered, re.DOTALL)]
    assert cells[::2] == [" ".join(name.split()) for name in NAMES]
    assert cells[1::2] == [str(i) for i in range(len(NAMES))]


def test_plain_names_stay_readable_as_text() -> None:
    assert markdown_table(["mean IoU"], [["avatars_10, 0.500 ± 0.010 (-3 %)"]]) == (
        "| mean IoU |\n| --- |\n| avatars_10, 0.500 ± 0.010 (-3 %) |\n"
    )
