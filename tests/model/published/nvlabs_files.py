"""Files of the form in which NVlabs saves StyleGAN2 networks, with none of NVlabs' code, and hostile ones like them."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

SOURCE = "raise RuntimeError('source text out of a checkpoint was run')\n"
"""What NVlabs' loaders would run."""


class Name:
    """A name of a package that is not installed, or must not be imported, for the pickle alone."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """What loading would call: a function and its arguments, and a state for what that gives."""

    def __init__(self, module: str, name: str, *arguments: Any, state: Any = None, new: bool = False) -> None:
        self.function, self.arguments, self.state, self.new = Name(module, name), arguments, state, new


class _Pickler(pickle._Pickler):
    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_name(self, named: Name) -> None:
        self.save(named.module)
        self.save(named.name)
        self.write(pickle.STACK_GLOBAL)

    def save_call(self, call: Call) -> None:
        self.save(call.function)
        self.save(call.arguments)
        self.write(pickle.NEWOBJ if call.new else pickle.REDUCE)
        self.memoize(call)
        if call.state is not None:
            self.save(call.state)
            self.write(pickle.BUILD)

    dispatch[Name], dispatch[Call] = save_name, save_call


def pickled(content: Any, protocol: int = 4) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol).dump(content)
    return file.getvalue()


def stored(data: bytes) -> Call:
    """A storage in the form in which tensors are pickled."""
    return Call("torch.storage", "_load_from_bytes", data)


def persistent(name: str, parameters: Any, buffers: Any, modules: Any, **attributes: Any) -> Call:
    """A module of stylegan2-ada-pytorch."""
    state = {
        "training": False,
        "_parameters": OrderedDict(
            (key, torch.nn.Parameter(value, requires_grad=False)) for key, value in parameters.items()
        ),
        "_buffers": OrderedDict(buffers),
        "_modules": OrderedDict(modules),
        **attributes,
    }
    meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": name, "state": state}
    return Call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)


def layers(levels: int) -> Iterator[tuple[int, str, str, str, int | None]]:
    """Resolution, NVlabs' name, TensorFlow's scope, rosinality's name, noise input or None for a to-RGB layer."""
    for level in range(levels):
        side = 4 * 2**level
        if level:
            yield side, "conv0", f"{side}x{side}/Conv0_up", f"convs.{2 * level - 2}", 2 * level - 1
        ours = f"convs.{2 * level - 1}" if level else "conv1"
        yield side, "conv1", f"{side}x{side}/{'Conv1' if level else 'Conv'}", ours, 2 * level
        yield side, "torgb", f"{side}x{side}/ToRGB", f"to_rgbs.{level - 1}" if level else "to_rgb1", None


def ada(w: dict[str, Tensor], *, clamp: float | None = None, **changes: Any) -> dict[str, Any]:
    """What stylegan2-ada-pytorch pickles of a generator with these weights, named as rosinality's."""
    levels = sum(key.startswith("to_rgb") and key.endswith("conv.weight") for key in w)
    taps = torch.tensor([1.0, 3, 3, 1])
    resample = {"resample_filter": taps[:, None] * taps / 64}
    blocks: dict[int, dict[str, Call]] = {}
    for side, kind, _, name, noise in layers(levels):
        affine = persistent(
            "FullyConnectedLayer",
            {key: w[f"{name}.conv.modulation.{key}"] for key in ("weight", "bias")},
            {},
            {},
            bias_gain=1,
            weight_gain=np.float64(0.25),
        )
        weight = {"weight": w[f"{name}.conv.weight"][0]}
        if noise is None:
            made = persistent(
                "ToRGBLayer", {**weight, "bias": w[f"{name}.bias"].reshape(3)}, {}, {"affine": affine}, conv_clamp=clamp
            )
        else:
            strength = {"noise_strength": w[f"{name}.noise.weight"][0], "bias": w[f"{name}.activate.bias"]}
            buffers = {**resample, "noise_const": w[f"noises.noise_{noise}"][0, 0]}
            made = persistent("SynthesisLayer", {**weight, **strength}, buffers, {"affine": affine}, conv_clamp=clamp)
        blocks.setdefault(side, {})[kind] = made
    synthesis = {
        f"b{side}": persistent(
            "SynthesisBlock",
            {"const": w["input.input"][0]} if side == 4 else {},
            resample,
            block,
            architecture=changes.get("architecture", "skip"),
        )
        for side, block in blocks.items()
    }
    dense = {
        f"fc{i}": persistent(
            "FullyConnectedLayer",
            {key: w[f"style.{i + 1}.{key}"] for key in ("weight", "bias")},
            {},
            {},
            bias_gain=changes.get("rate", 0.01),
        )
        for i in range(sum(key.startswith("style.") for key in w) // 2)
    }
    whole = persistent(
        "Generator",
        {},
        {},
        {
            "synthesis": persistent("SynthesisNetwork", {}, {}, synthesis),
            "mapping": persistent("MappingNetwork", {}, {"w_avg": w["latent_avg"]}, dense),
        },
        _init_args=(),
        _init_kwargs=Call("dnnlib.util", "EasyDict", new=True),
        c_dim=changes.get("c_dim", 0),
    )
    return {"G": whole, "D": None, "G_ema": whole, "training_set_kwargs": None}


def tensorflow(w: dict[str, Tensor], **settings: Any) -> tuple[Call, Call, Call]:
    """What the TensorFlow StyleGAN2 pickles."""
    levels = sum(key.startswith("to_rgb") and key.endswith("conv.weight") for key in w)
    a = {key: value.numpy() for key, value in w.items()}
    synthesis: list[tuple[str, Any]] = [("4x4/Const/const", a["input.input"])]
    for _, _, scope, name, noise in layers(levels):
        weight = a[f"{name}.conv.weight"][0].transpose(2, 3, 1, 0)
        if scope.endswith("Conv0_up"):
            weight = weight[::-1, ::-1]
        synthesis += [
            (f"{scope}/weight", np.ascontiguousarray(weight)),
            (f"{scope}/mod_weight", np.ascontiguousarray(a[f"{name}.conv.modulation.weight"].T)),
            (f"{scope}/mod_bias", a[f"{name}.conv.modulation.bias"] - 1),
        ]
        if noise is None:
            synthesis.append((f"{scope}/bias", a[f"{name}.bias"].reshape(3)))
        else:
            synthesis += [
                (f"{scope}/noise_strength", a[f"{name}.noise.weight"][0]),
                (f"{scope}/bias", a[f"{name}.activate.bias"]),
                (f"noise{noise}", a[f"noises.noise_{noise}"]),
            ]
    mapping = []
    for i in range(sum(key.startswith("style.") for key in w) // 2):
        mapping += [
            (f"Dense{i}/weight", np.ascontiguousarray(a[f"style.{i + 1}.weight"].T)),
            (f"Dense{i}/bias", a[f"style.{i + 1}.bias"]),
        ]

    def network(variables: Any, components: Any = None, kwargs: Any = None) -> Call:
        state = {
            "version": 4,
            "static_kwargs": kwargs or {},
            "components": components or {},
            "build_module_src": SOURCE,
            "variables": variables,
        }
        return Call("dnnlib.tflib.network", "Network", state=state, new=True)

    kwargs = {"label_size": 0, "architecture": "skip", "resample_kernel": [1, 3, 3, 1], **settings}
    parts = {"synthesis": network(synthesis), "mapping": network(mapping)}
    whole = network([("lod", np.float32(0)), ("dlatent_avg", a["latent_avg"])], parts, kwargs)
    return whole, whole, whole
