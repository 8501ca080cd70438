"""Training in this process only: the configuration is used unchanged, on the available device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.training import processes
from ddpm_seg.training.network.pretrain_config import PretrainDDPMConfig
from ddpm_seg.training.processes import train_in


@dataclass(frozen=True)
class Config:
    output: str


def test_without_workers_this_process_trains() -> None:
    seen: list[tuple[Config, Worker]] = []
    train_in(0, lambda config, worker: seen.append((config, worker)), Config("here"))
    ((config, worker),) = seen
    assert config == Config("here")
    assert (worker.rank, worker.world_size, worker.device) == (0, 1, default_device())


def test_workers_get_an_output_that_means_the_same_in_their_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[PretrainDDPMConfig] = []
    monkeypatch.setattr(processes, "train_on_ray", lambda train, config, workers: seen.append(config))
    train_in(3, lambda config, worker: None, PretrainDDPMConfig(images="in", output="here"))
    assert [config.output for config in seen] == [str(tmp_path / "here")]
