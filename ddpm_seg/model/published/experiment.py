"""Reads what classifiers were trained for: ddpm-segmentation's experiment files and ModelScope's
`configuration.json`."""

from __future__ import annotations

import colorsys
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ddpm_seg import storage
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.json_values import MAX_INTEGER, parse_object, shown
from ddpm_seg.model.limits import MAX_MEMBERS
from ddpm_seg.model.network import Network
from ddpm_seg.model.published.flags import DEFAULTS
from ddpm_seg.model.published.names import ModelType
from ddpm_seg.model.published.state_dicts import base_name, refuse_placeholder
from ddpm_seg.tasks import TASKS, UNLABELLED, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """The fields of an experiment file that a trained ensemble depends on, under their names there."""

    model_type: ModelType
    category: str
    number_class: int
    ignore_label: int | None
    dim: tuple[int, int, int]
    """Height and width of the network's input, and the channels of all activations together."""
    steps: tuple[int, ...]
    blocks: tuple[int, ...]
    model_num: int
    upsample_mode: Literal["bilinear", "nearest"]
    share_noise: bool

    def features(self, network: Network) -> FeatureConfig:
        """The features to read from the network. Raises ValueError if the network does not have them, or has another
        `dim`.

        Experiments state steps and blocks only for DDPMs; for other networks the published extractors always read the
        same blocks.
        """
        height, width, channels = self.dim
        if not height == width == network.image_size:
            raise ValueError(
                f"experiment: dim {list(self.dim)} means images of {height}x{width}, but the network's image_size is "
                f"{network.image_size}; give the model flags and the experiment of one model"
            )
        blocks = self.blocks or network.published_features().blocks
        features = FeatureConfig(steps=self.steps, blocks=blocks, upsample_mode=self.upsample_mode)
        features.check(network)
        found = sum(features.channels(network))
        if found != channels:
            raise ValueError(
                f"experiment: dim {list(self.dim)} means {channels} feature channels, but steps {list(self.steps)} and "
                f"blocks {list(blocks)} of this network have {found}; give the experiment of this checkpoint"
            )
        return features

    def task(self) -> Task:
        """The published task of this category, or one with generic class names; the experiment sets the ignored
        class."""
        known = TASKS.get(self.category)
        if known is not None and known.num_classes != self.number_class:
            raise ValueError(
                f"experiment: number_class {self.number_class}, but category {shown(self.category)} has "
                f"{known.num_classes} classes; correct category or number_class"
            )
        if known is not None:
            return replace(known, ignore_label=self.ignore_label)
        logger.warning("category %r is not a published task: its classes are called class_0, class_1, …", self.category)
        return Task(
            name=self.category,
            class_names=tuple(f"class_{index}" for index in range(self.number_class)),
            palette=tuple(_color(index) for index in range(self.number_class)),
            ignore_label=self.ignore_label,
        )


def load_experiment(uri: str) -> Experiment:
    """Reads a ddpm-segmentation experiment file. Raises ValueError naming the file and the field that is wrong."""
    return _experiment(_read_json(uri), base_name(uri))


def load_modelscope_configuration(directory: str) -> tuple[Experiment, dict[str, Any]]:
    """Reads `configuration.json` of a ModelScope folder: the experiment, and the guided-diffusion flags given there.

    ModelScope passes `model.mlp` to its classifier, which looks for its classes under the category's name
    (`model.mlp.ffhq_34.number_class`); a `number_class` directly in `model.mlp` is read as well.
    """
    uri = storage.join(directory, "configuration.json")
    name = base_name(uri)
    configuration = _read_json(uri)
    model = _section(configuration, "model", name)
    ddpm, mlp = _section(model, "ddpm", f"{name}: model"), _section(model, "mlp", f"{name}: model")
    category = _field(_section(configuration, "pipeline", name), "category", str, f"{name}: pipeline")
    if not re.fullmatch(r"\w[\w. -]*", category):  # it names the folder of the classifiers, and must not lead elsewhere
        raise ValueError(f"{name}: pipeline.category is {shown(category)}; expected the name of a folder beside it")
    of_category = mlp.get(category, {})
    if not isinstance(of_category, dict):
        raise ValueError(
            f"{name}: model.mlp.{category} is {shown(of_category)}; expected number_class and ignore_label"
        )
    classes = {key: {**mlp, **of_category}.get(key) for key in ("number_class", "ignore_label")}
    if classes["number_class"] is None:
        raise ValueError(f"{name}: model.mlp has no {category}.number_class; expected the number of its classes")
    if "ignore_label" not in {**mlp, **of_category}:
        classes["ignore_label"] = UNLABELLED
    values = {**ddpm, **classes, "category": category, "dim": mlp.get("dim"), "model_num": mlp.get("model_num", 1)}
    experiment = _experiment(values, name)
    if experiment.model_type != "ddpm":
        raise ValueError(f"{name}: model.ddpm.model_type is {experiment.model_type!r}; expected 'ddpm'")
    return experiment, {flag: ddpm[flag] for flag in DEFAULTS if flag in ddpm}


def _experiment(values: Mapping[str, Any], where: str) -> Experiment:
    model_type = values.get("model_type", "ddpm")
    if model_type not in get_args(ModelType):
        raise ValueError(f"{where}: model_type {shown(model_type)}; expected one of {', '.join(get_args(ModelType))}")
    of_inputs = model_type.startswith("swav")
    side = "inputs" if of_inputs else "outputs"
    if values.get("input_activations", of_inputs) is not of_inputs:
        raise ValueError(
            f"{where}: input_activations {shown(values['input_activations'])}; of {model_type}, only classifiers on "
            f"the blocks' {side} (input_activations {json.dumps(of_inputs)}, as all published ones) can be converted"
        )
    share_noise = values.get("share_noise", False)
    if model_type == "ddpm" and share_noise is not True:
        logger.warning(
            "%s: share_noise is %s: these classifiers were trained under fresh noise for every image; the bundle "
            "shares one draw among all images",
            where,
            json.dumps(share_noise),
        )
    dim = _integers(values, "dim", where)
    if len(dim) != 3:
        raise ValueError(f"{where}: dim {list(dim)}; expected [height, width, channels]")
    ignore_label = values.get("ignore_label")
    if "ignore_label" not in values or not (ignore_label is None or type(ignore_label) is int):
        raise ValueError(f"{where}: ignore_label {shown(ignore_label)}; expected a class id, {UNLABELLED} or null")
    model_num, number_class = (_field(values, key, int, where) for key in ("model_num", "number_class"))
    for key, value, most in (("model_num", model_num, MAX_MEMBERS), ("number_class", number_class, UNLABELLED)):
        if not 1 <= value <= most:
            raise ValueError(f"{where}: {key} {shown(value)}; expected 1 to {most}")
    upsample_mode = _field(values, "upsample_mode", str, where)
    if upsample_mode not in ("bilinear", "nearest"):
        raise ValueError(f"{where}: upsample_mode {shown(upsample_mode)}; expected 'bilinear' or 'nearest'")
    ddpm = model_type == "ddpm"
    return Experiment(
        model_type=model_type,
        category=_field(values, "category", str, where),
        number_class=number_class,
        ignore_label=ignore_label,
        dim=(dim[0], dim[1], dim[2]),
        steps=_integers(values, "steps", where) if ddpm else (),
        # The published extractor checks for each block whether it is listed, so order and repetition do not matter.
        blocks=tuple(sorted(set(_integers(values, "blocks", where)))) if ddpm else (),
        model_num=model_num,
        upsample_mode=upsample_mode,
        share_noise=share_noise is True,
    )


def _read_json(uri: str) -> dict[str, Any]:
    name, data = storage.redact(uri), storage.read_bytes(uri, max_bytes=1_000_000)
    refuse_placeholder(data, name, "JSON file")
    try:
        return parse_object(data)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _section(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    return _field(values, key, dict, where)


def _field(values: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = values.get(key)
    if type(value) is not kind:  # not isinstance: True is an int
        names = {int: "an integer", str: "text", dict: "an object"}
        raise ValueError(f"{where}: {key} is {'missing' if value is None else shown(value)}; expected {names[kind]}")
    return value


def _integers(values: Mapping[str, Any], key: str, where: str) -> tuple[int, ...]:
    value = values.get(key)
    fits = isinstance(value, list) and all(type(item) is int and 0 <= item < MAX_INTEGER for item in value)
    if not value or not fits:
        raise ValueError(f"{where}: {key} is {shown(value)}; expected a list of integers from 0")
    return tuple(value)


def _color(index: int) -> tuple[int, int, int]:
    """White, then hues a golden angle apart in three strengths, so that neighbours differ, even among 255 colours."""
    if index == 0:
        return (255, 255, 255)
    strength = (0.95, 0.7, 0.5)[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.6180339887 % 1, 0.45 + 0.5 * (index % 2), strength)
    return (round(255 * red), round(255 * green), round(255 * blue))
