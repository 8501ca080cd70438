from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.segmenter import Segmenter
from tests.model.tiny_networks import images
from tests.tiny_bundle import tiny_bundle


def failing(error: Exception) -> Callable[..., Any]:
    def compile(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            raise error

        return call

    return compile


def test_what_does_not_compile_runs_as_it_is(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch, "compile", failing(RuntimeError("no C++ compiler")))
    double = compiled(lambda x: 2 * x)
    assert [double(number) for number in (1, 2, 3)] == [2, 4, 6]
    assert [record.getMessage() for record in caplog.records] == [
        "the network runs uncompiled, because torch.compile failed: no C++ compiler"
    ]


def test_too_little_memory_is_not_a_failure_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", failing(torch.OutOfMemoryError("CUDA out of memory")))
    double = compiled(lambda x: 2 * x)
    for _ in range(2):  # the batch is halved and tried again, compiled still
        with pytest.raises(torch.OutOfMemoryError):
            double(1)


def test_an_error_of_its_own_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", failing(ValueError("of the compiled one")))
    with pytest.raises(ZeroDivisionError):
        compiled(lambda x: 1 // x)(0)


@pytest.mark.slow
def test_a_compiled_network_says_the_same(caplog: pytest.LogCaptureFixture) -> None:
    model, pictures = tiny_bundle(), images(6, 16)
    plain, fast = (Segmenter(model, device="cpu", batch_size=4, compile=compile) for compile in (False, True))
    for a, b in zip(plain.segment(pictures), fast.segment(pictures), strict=True):
        assert (a.label == b.label).mean() > 0.99
        np.testing.assert_allclose(a.uncertainty, b.uncertainty, atol=1e-4)
    assert not [record for record in caplog.records if record.name.startswith("ddpm_seg")]  # it did compile
