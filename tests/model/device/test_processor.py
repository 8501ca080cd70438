from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from ddpm_seg.model.device import processor
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.model.device.processor import has_bfloat16, prepare

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_processor_with_avx2_alone_has_no_bfloat16() -> None:
    assert has_bfloat16(GPU)
    flags = Path("/proc/cpuinfo").read_text().split()
    if "avx2" in flags and "avx512bw" not in flags:
        assert not has_bfloat16(CPU)
    if "avx512_bf16" in flags:
        assert has_bfloat16(CPU)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("supported", [True, False])
def test_the_log_warns_of_a_format_that_is_slow_here(
    dtype: DType, supported: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processor, f"_cpu_has_{dtype}", lambda: supported)
    with caplog.at_level(logging.WARNING):
        prepare(CPU, dtype)
        warned = [record.getMessage() for record in caplog.records]
        prepare(GPU, dtype)
        prepare("cpu", "float32")
    assert warned == ([] if supported else [f"this CPU has no instructions for {dtype}: {processor.SLOW}"])
    assert len(caplog.records) == len(warned)
