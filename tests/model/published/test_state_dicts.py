"""What is refused of a checkpoint before torch looks at it."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddpm_seg.model.published.state_dicts import read_checkpoint

NESTED = b"\x80\x02})" + b"\x85" * 300_000 + b"Ns."
"""A dictionary whose key is a tuple in a tuple in a tuple: whoever hashes it dies of a stack overflow."""


def in_a_zip(pickled: bytes) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, file)
    changed = io.BytesIO()
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(changed, "w") as out:
        for entry in whole.infolist():
            out.writestr(entry.filename, pickled if entry.filename.endswith("data.pkl") else whole.read(entry))
    return changed.getvalue()


def in_the_older_form(pickled: bytes) -> bytes:
    file = io.BytesIO()
    torch.save({}, file, _use_new_zipfile_serialization=False)
    content = file.getvalue()
    return content.replace(b"\x80\x02}q\x00.", pickled, 1)


@pytest.mark.parametrize("write", [in_a_zip, in_the_older_form, bytes])
def test_tuples_in_tuples_are_refused(tmp_path: Path, write: object) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(write(NESTED))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"weights\.pt: refused: it has more than 100000 tuples"):
        read_checkpoint(str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (gzip.compress, "does not begin like a file of torch.save or safetensors; if it is packed, unpack it"),
        (lambda _: b"Entry not found", "does not begin like a file of torch.save or safetensors"),
        (lambda _: b'{"error": "not found"}', "does not begin like a file of torch.save or safetensors"),
        (lambda _: pickle.dumps({"weight": 1}), "does not begin like a file of torch.save or safetensors"),
        (lambda whole: whole[: len(whole) // 100], "its end is missing; download it again"),
        (lambda whole: whole[:-1], "its end is missing; download it again"),
    ],
)
def test_a_file_that_is_no_checkpoint_or_cut_short_is_said_so(
    tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(300)}, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: not a .*{said}"):
        read_checkpoint(str(path))


def test_endless_lists_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(in_a_zip(b"\x80\x02(" + b"]" * 2_100_000 + b"l."))
    with pytest.raises(ValueError, match=r"weights\.pt: refused: it has more than 2000000 operations"):
        read_checkpoint(str(path))
