"""CSV as the jobs write it."""

from __future__ import annotations

import csv
import io

from ddpm_seg.csv_text import csv_text


def test_rows_come_back_as_they_were_written() -> None:
    rows = [["plain", "with, comma", 'with "quotes"'], ["two\nlines", "", "ä"]]
    text = csv_text(["a", "b", "c"], rows)
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a", "b", "c"], *rows]


def test_lines_end_as_on_unix_and_none_is_empty() -> None:
    assert csv_text(["step", "miou"], [(None, 0.5)]) == "step,miou\n,0.5\n"
