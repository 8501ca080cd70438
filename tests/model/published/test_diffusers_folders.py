"""Folders of diffusers as strangers have them: read as diffusers reads them, or refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, EulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, network_digest
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.model.published.diffusers.weights import choose_file
from jobs import convert as convert_job
from tests.model.published.tiny_diffusers import ARCHITECTURE, pipeline

WEIGHTS = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(pipeline(tmp_path_factory.mktemp("original") / "pipeline"))


@pytest.fixture(scope="module")
def digest(original: Path) -> str:
    return digest_of(original)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(original, tmp_path / "pipeline"))


def digest_of(folder: Path) -> str:
    return network_digest(convert(ConvertConfig(diffusers=str(folder), output="")))


def change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    file = folder / "unet" / f"{WEIGHTS}.safetensors"
    save_file(change(load_file(file)), file)


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the job ends with."""
    capsys.readouterr()
    output = folder.parent / "bundle"
    assert convert_job.main(["--diffusers", str(folder), "--output", str(output)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert not output.exists()
    return printed.err


# --- what comes to the same network ---


@pytest.mark.parametrize(
    "how",
    [
        {"variant": "fp16"},
        {"max_shard_size": "500KB"},
        {"max_shard_size": "500KB", "variant": "fp16"},
        {"safe_serialization": False},
        {"safe_serialization": False, "max_shard_size": "500KB"},
        {"variant": "non_ema"},
    ],
    ids=str,
)
def test_every_form_that_diffusers_writes(original: Path, digest: str, tmp_path: Path, how: dict[str, Any]) -> None:
    DDPMPipeline.from_pretrained(original).save_pretrained(tmp_path / "other", **how)
    assert digest_of(tmp_path / "other") == digest


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module."])
def test_names_of_wrappers_are_taken_off(folder: Path, digest: str, prefix: str) -> None:
    rewrite(folder, lambda state: {prefix + key: value for key, value in state.items()})
    assert digest_of(folder) == digest


def test_compiled_blocks(folder: Path, digest: str) -> None:
    """torch.compile of some blocks alone leaves its name within the keys."""
    rewrite(folder, lambda state: {key.replace("mid_block.", "mid_block._orig_mod."): state[key] for key in state})
    assert digest_of(folder) == digest


def test_names_of_attention_layers_before_0_14(folder: Path, digest: str) -> None:
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def old(key: str) -> str:
        for new, earlier in names.items():
            key = key.replace(f".{new}.", f".{earlier}.")
        return key

    rewrite(folder, lambda state: {old(key): value for key, value in state.items()})
    assert digest_of(folder) == digest
    assert torch.equal(
        UNet2DModel.from_pretrained(folder, subfolder="unet").mid_block.attentions[0].to_q.weight,
        convert(ConvertConfig(diffusers=str(folder), output="")).weights["network.mid_block.attentions.0.to_q.weight"],
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_become_float32(folder: Path, dtype: torch.dtype) -> None:
    rewrite(folder, lambda state: {key: value.to(dtype) for key, value in state.items()})
    found = convert(ConvertConfig(diffusers=str(folder), output="")).weights
    reference = UNet2DModel.from_pretrained(folder, subfolder="unet").state_dict()
    assert {value.dtype for value in found.values()} == {torch.float32}
    for key, value in reference.items():
        assert torch.equal(found[f"network.{key}"], value), key


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("unet/config.json", {"sample_size": [32, 32]}),
        ("unet/config.json", {"_name_or_path": "/somewhere", "_diffusers_version": "99.0"}),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler", "steps_offset": 1}),
        ("scheduler/scheduler_config.json", {"skip_prk_steps": True}),
        ("model_index.json", {"_class_name": "DDIMPipeline", "safety_checker": [None, None]}),
    ],
)
def test_what_means_the_same(folder: Path, digest: str, file: str, changes: dict[str, Any]) -> None:
    change_json(folder / file, **changes)
    assert digest_of(folder) == digest


def test_another_sampler_has_the_same_schedule(folder: Path, digest: str) -> None:
    loaded = DDPMPipeline.from_pretrained(folder)
    EulerDiscreteScheduler.from_config(loaded.scheduler.config).save_pretrained(folder / "scheduler")
    assert digest_of(folder) == digest


def test_unknown_arguments_are_dropped_and_named(folder: Path, digest: str, caplog: pytest.LogCaptureFixture) -> None:
    change_json(folder / "unet" / "config.json", from_the_future=3)
    assert digest_of(folder) == digest
    assert "'from_the_future'" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_sample_range": 2.0}, "clips x_0 to [-2, 2]"),
        ({"clip_sample": False}, "does not clip"),
        ({"thresholding": True}, "does not clip"),
        ({"variance_type": "learned"}, "variance_type is 'learned'"),
    ],
)
def test_what_our_samplers_do_otherwise_is_said(
    folder: Path, digest: str, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], message: str
) -> None:
    change_json(folder / "scheduler" / "scheduler_config.json", **changes)
    assert digest_of(folder) == digest
    assert message in caplog.text


def test_an_old_scheduler_that_predicts_the_image(folder: Path) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    values = json.loads(file.read_text())
    del values["prediction_type"]
    file.write_text(json.dumps(values | {"predict_epsilon": False}))
    assert convert(ConvertConfig(diffusers=str(folder), output="")).ddpm.diffusion.predict_xstart


def test_a_snapshot_in_the_hubs_cache(folder: Path, digest: str, tmp_path: Path) -> None:
    """There, files are links to the repository's blobs."""
    repository = tmp_path / "models--someone--tiny"
    snapshot = repository / "snapshots" / "0123abcd"
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob, link = repository / "blobs" / str(number), snapshot / file.relative_to(folder)
        blob.parent.mkdir(exist_ok=True, parents=True)
        link.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    assert digest_of(snapshot) == digest


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], None),
        (["model.safetensors", "diffusion_pytorch_model.safetensors.bak"], None),
        ([f"{WEIGHTS}.bin", f"{WEIGHTS}.safetensors"], f"{WEIGHTS}.safetensors"),
        ([f"{WEIGHTS}.bin", f"{WEIGHTS}.fp16.safetensors"], f"{WEIGHTS}.bin"),
        ([f"{WEIGHTS}.fp16.bin", f"{WEIGHTS}.bf16.safetensors"], f"{WEIGHTS}.fp16.bin"),
        (
            [f"{WEIGHTS}.safetensors.index.json", f"{WEIGHTS}-00001-of-00002.safetensors"],
            f"{WEIGHTS}.safetensors.index.json",
        ),
        (
            [f"{WEIGHTS}.safetensors.index.fp16.json", f"{WEIGHTS}.fp16-00001-of-00002.safetensors"],
            f"{WEIGHTS}.safetensors.index.fp16.json",
        ),
    ],
)
def test_which_file_holds_the_weights(names: list[str], chosen: str | None) -> None:
    assert choose_file(names) == choose_file(reversed(names)) == chosen


# --- what is refused ---


def without(key: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def with_value(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: state | {key: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("conv_out.bias"), "it lacks conv_out.bias"),
        (with_value("ema.decay", torch.zeros(1)), "it has ema.decay, which the network lacks"),
        (with_value("conv_out.bias", torch.zeros(4)), "conv_out.bias is (4,), expected (3,)"),
        (with_value("conv_out.bias", torch.full((3,), torch.nan)), "conv_out.bias has values that are not finite"),
        (with_value("conv_out.bias", torch.full((3,), torch.inf)), "conv_out.bias has values that are not finite"),
        (with_value("conv_out.bias", torch.zeros(3, dtype=torch.int8)), "conv_out.bias is torch.int8"),
        (with_value("class_embedding.weight", torch.zeros(10, 128)), "it has class_embedding.weight"),
        (lambda state: {f"unet.{key}": value for key, value in state.items()}, "it lacks conv_in.bias"),
        (lambda state: {"_orig_mod.conv_in.bias": torch.zeros(32), **state}, "it has _orig_mod.conv_in.bias"),
        (lambda state: dict(list(state.items())[:3]), "it lacks"),
    ],
)
def test_weights_that_are_not_the_networks(
    folder: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    rewrite(folder, change)
    printed = refused(folder, capsys)
    assert message in printed
    assert str(folder / "unet") in printed


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "'vqvae' (its network sees latents, not pixels)"),
        ("model_index.json", {"_class_name": "LDMPipeline"}, "'LDMPipeline'"),
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "'StableDiffusionPipeline'"),
        ("model_index.json", {"text_encoder": ["transformers", "CLIPTextModel"]}, "'text_encoder'"),
        ("unet/config.json", {"sample_size": [32, 48]}, "sample_size must be the side of a square, got [32, 48]"),
        ("unet/config.json", {"sample_size": None}, "sample_size must be the side of a square"),
        ("unet/config.json", {"up_block_types": ["UpBlock2D", "KUpBlock2D", "UpBlock2D"]}, "'KUpBlock2D'"),
        ("unet/config.json", {"up_block_types": ["SkipUpBlock2D", "UpBlock2D", "UpBlock2D"]}, "'SkipUpBlock2D'"),
        ("unet/config.json", {"down_block_types": ["CrossAttnDownBlock2D"] * 3}, "'CrossAttnDownBlock2D'"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "expected an unconditional UNet2DModel"),
        ("unet/config.json", {"num_class_embeds": 10}, "expected a network without conditions"),
        ("unet/config.json", {"act_fn": "no_such"}, "cannot be built"),
        ("unet/config.json", {"layers_per_block": 10**9}, "layers_per_block must be at most"),
        ("unet/config.json", {"block_out_channels": [64, 64, 64]}, "not the weights of the network"),
        ("unet/config.json", {"flip_sin_to_cos": "yes"}, "flip_sin_to_cos is 'yes'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow_prediction"}, "prediction_type"),
        ("scheduler/scheduler_config.json", {"use_flow_sigmas": True}, "use_flow_sigmas is true"),
        ("scheduler/scheduler_config.json", {"timestep_type": "continuous"}, "timestep_type is 'continuous'"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "num_train_timesteps must be at most"),
        ("scheduler/scheduler_config.json", {"beta_start": -1}, "beta_start must be at least 0"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1, 2.0]}, "betas must be 2 numbers between 0 and 1"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "exponential"}, "beta_schedule is 'exponential'"),
    ],
)
def test_settings_of_another_kind(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str, changes: dict[str, Any], message: str
) -> None:
    change_json(folder / file, **changes)
    printed = refused(folder, capsys)
    assert message in printed
    assert str(folder) in printed


def test_a_latent_pipeline_without_its_index(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model_index.json").unlink()
    (folder / "vqvae").mkdir()
    assert "sees latents" in refused(folder, capsys)


def test_flow_matching(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(flow))
    assert "FlowMatchEulerDiscreteScheduler without a beta_schedule" in refused(folder, capsys)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (f"unet/{WEIGHTS}.safetensors", None, "there are no weights"),
        (f"unet/{WEIGHTS}.safetensors", b"", "an empty file"),
        (f"unet/{WEIGHTS}.safetensors", POINTER, "git lfs pull"),
        (f"unet/{WEIGHTS}.safetensors", b"<!DOCTYPE html>", "a web page"),
        (f"unet/{WEIGHTS}.safetensors", b"\x10\0\0\0\0\0\0\0{}", "not a safetensors file"),
        (f"unet/{WEIGHTS}.safetensors", b"\x80\x02}q\x00.", "not a checkpoint"),
        ("unet/config.json", None, "there is no unet/config.json or config.json"),
        ("unet/config.json", b"", "an empty file"),
        ("unet/config.json", b"{", "it is not JSON"),
        ("unet/config.json", b"[1]", "it must hold a JSON object"),
        ("unet/config.json", b"[" * 100_000, "nested"),
        ("unet/config.json", POINTER, "git lfs pull"),
        ("unet/config.json", b"{}", "sample_size"),
        ("scheduler/scheduler_config.json", None, "there is no scheduler/scheduler_config.json"),
        ("scheduler/scheduler_config.json", b"{}", "without a beta_schedule"),
        ("model_index.json", b"\xff\xfe\x00", "it is not JSON"),
    ],
)
def test_missing_and_damaged_files(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str, content: bytes | None, message: str
) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    printed = refused(folder, capsys)
    assert message in printed
    assert str(folder) in printed


def test_places_that_are_no_pipeline(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no unet/config.json" in refused(tmp_path / "empty", capsys)
    assert "there is no scheduler/scheduler_config.json" in refused(folder / "unet", capsys)
    assert "a file; expected the folder" in refused(folder / "model_index.json", capsys)
    assert "no such folder" in refused(tmp_path / "nowhere", capsys)


@pytest.mark.parametrize(
    "target", ["/dev/zero", "/etc/passwd", "../../secret", "config.json", f"{WEIGHTS}.safetensors"]
)
@pytest.mark.parametrize("file", ["config.json", f"{WEIGHTS}.safetensors"])
def test_links_lead_nowhere_else(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, target: str
) -> None:
    (tmp_path / "secret").write_text('{"password": "hunter2"}')
    (folder / "unet" / file).unlink()
    (folder / "unet" / file).symlink_to(target)
    printed = refused(folder, capsys)
    assert "root:" not in printed
    assert "hunter2" not in printed


@pytest.mark.parametrize("file", ["unet/config.json", f"unet/{WEIGHTS}.safetensors", "model_index.json"])
def test_a_pipe_is_not_waited_for(folder: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    refused(folder, capsys)


def sharded(folder: Path) -> tuple[Path, dict[str, Any]]:
    DDPMPipeline.from_pretrained(folder).save_pretrained(folder, max_shard_size="2MB")
    (folder / "unet" / f"{WEIGHTS}.safetensors").unlink(missing_ok=True)
    index = folder / "unet" / f"{WEIGHTS}.safetensors.index.json"
    return index, json.loads(index.read_text())


@pytest.mark.parametrize(
    "shard",
    ["../../secret.safetensors", "/etc/passwd", "..", "", "a/b.safetensors", "x.bin", 3, None, "x\n.safetensors"],
)
def test_a_shard_lies_beside_its_index(folder: Path, capsys: pytest.CaptureFixture[str], shard: Any) -> None:
    index, content = sharded(folder)
    shutil.copy(folder / "unet" / f"{WEIGHTS}-00001-of-00003.safetensors", folder.parent / "secret.safetensors")
    content["weight_map"]["conv_in.bias"] = shard
    index.write_text(json.dumps(content))
    printed = refused(folder, capsys)
    assert str(index) in printed
    assert "expected a .safetensors file beside the index" in printed


def test_shards_that_are_missing_or_double(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, content = sharded(folder)
    first = folder / "unet" / f"{WEIGHTS}-00001-of-00003.safetensors"
    shutil.copy(first, folder / "unet" / "again.safetensors")
    index.write_text(json.dumps({"weight_map": content["weight_map"] | {"x": "again.safetensors"}}))
    assert "is in another file too" in refused(folder, capsys)
    index.write_text(json.dumps(content))
    first.unlink()
    printed = refused(folder, capsys)
    assert first.name in printed
    assert "is missing" in printed
    index.write_text("{}")
    assert "weight_map is None" in refused(folder, capsys)


def test_several_variants_are_not_guessed_among(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "unet" / f"{WEIGHTS}.safetensors"
    shutil.copy(file, file.with_name(f"{WEIGHTS}.ema.safetensors"))
    file.rename(file.with_name(f"{WEIGHTS}.raw.safetensors"))
    assert "variants ema, raw" in refused(folder, capsys)


def converted_from_the_hub(endpoint: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The job in a process of its own, with an empty cache and the hub at `endpoint`."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "jobs.convert", "--diffusers", "someone/tiny"]
    return subprocess.run(
        [*command, "--output", str(tmp_path / "bundle")], env=environment, capture_output=True, text=True, timeout=900
    )


def test_a_name_of_the_hub_without_network(tmp_path: Path) -> None:
    job = converted_from_the_hub("http://127.0.0.1:9", tmp_path)
    assert (job.returncode, job.stdout) == (2, "")
    assert job.stderr.count("\n") == 1
    assert "no such folder, and the hub cannot be reached" in job.stderr
    assert "someone/tiny" in job.stderr


class Hub(BaseHTTPRequestHandler):
    """Answers as Hugging Face's hub does, for the one repository someone/tiny."""

    folder: Path
    fetched: list[str]
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path, headers = self.path.partition("?")[0], {}
        files = {str(file.relative_to(self.folder)): file for file in self.folder.rglob("*") if file.is_file()}
        if path in ("/api/models/someone/tiny", "/api/models/someone/tiny/revision/main"):
            about = {"id": "someone/tiny", "sha": self.commit, "siblings": [{"rfilename": file} for file in files]}
            body = json.dumps(about).encode()
        elif path.startswith("/api/models/someone/tiny/tree/"):
            tree = [{"type": "file", "path": name, "size": files[name].stat().st_size, "oid": ""} for name in files]
            body = json.dumps(tree).encode()
        elif path.startswith("/someone/tiny/resolve/"):
            name = path.split("/", 5)[5]
            body = (self.folder / name).read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": self.commit}
            self.fetched += [name] if with_body else []
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for header, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


@pytest.mark.slow
def test_a_name_of_the_hub(original: Path, digest: str, tmp_path: Path) -> None:
    """What is needed is fetched, and nothing else; without the hub it is taken from the cache."""
    shutil.copytree(original, tmp_path / "repository")
    for name in ("unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors", "LICENSE"):
        (tmp_path / "repository" / name).write_bytes(b"not needed")
    (tmp_path / "repository" / "README.md").write_text("---\nlicense: mit\n---\n")  # names the licence
    handler = type("OwnHub", (Hub,), {"folder": tmp_path / "repository", "fetched": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        job = converted_from_the_hub(f"http://127.0.0.1:{server.server_port}", tmp_path)
        server.shutdown()
    assert job.returncode == 0, job.stderr
    assert network_digest(load_bundle(str(tmp_path / "bundle"))) == digest
    assert sorted(handler.fetched) == [
        "README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    shutil.rmtree(tmp_path / "bundle")
    assert converted_from_the_hub("http://127.0.0.1:9", tmp_path).returncode == 0


def test_the_architecture_of_the_bundle_is_as_before(folder: Path) -> None:
    """Everything in config.json but diffusers' own notes, so that a model keeps its id."""
    found = convert(ConvertConfig(diffusers=str(folder), output="")).ddpm.unet.architecture
    written = json.loads((folder / "unet" / "config.json").read_text())
    assert found == {key: value for key, value in written.items() if not key.startswith("_")}
    assert tuple(found["block_out_channels"]) == ARCHITECTURE["block_out_channels"]
