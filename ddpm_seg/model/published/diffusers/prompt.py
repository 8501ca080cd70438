"""Computes the embedding of a prompt with the text encoders of a pipeline of diffusers."""

# Shapes: a prompt has L tokens with E values each, and P values as a whole.

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.json_values import one_line, shown
from ddpm_seg.model.published.diffusers.files import Folder
from ddpm_seg.model.published.diffusers.library_folder import quiet_transformers
from ddpm_seg.model.published.diffusers.weights import MODEL, read_weights
from ddpm_seg.model.published.state_dicts import usable
from ddpm_seg.model.shapes import some

TEXT, TOKENIZER, SECOND = "text_encoder", "tokenizer", "_2"
MOST_TOKENS = 1024
_TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Embedding(NamedTuple):
    """A prompt as the UNet is given it."""

    tokens: Tensor
    """(1, L, E) float32."""
    pooled: Tensor | None
    """(1, P) float32, the whole prompt; None for Stable Diffusion 1 and 2."""


def embedding(folder: Folder, prompt: str) -> Embedding:
    """The embedding of `prompt` as the folder's pipeline computes it; Stable Diffusion XL has two text encoders.

    Raises ValueError without transformers, and for other text encoders than CLIP's.
    """
    try:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: the prompt needs pip install 'ddpm_seg[transformers]'") from error
    first = _encoded(folder, "", prompt, CLIPTextModel)
    if not folder.has(TEXT + SECOND):
        return Embedding(first[0], None)
    second = _encoded(folder, SECOND, prompt, CLIPTextModelWithProjection)
    return Embedding(torch.cat([one.hidden_states[-2] for one in (first, second)], dim=-1), second.text_embeds)


def _encoded(folder: Folder, number: str, prompt: str, encoder: Any) -> Any:
    """What the text encoder `number` ("" or "_2") of the folder, of the class `encoder`, makes of `prompt`."""
    from transformers import CLIPTextConfig, CLIPTokenizer

    part, words = TEXT + number, TOKENIZER + number
    _, found = folder.read_part((part,), "config.json")
    where = folder.named(part)
    if found.get("model_type") not in ("clip_text_model", "clip"):
        raise ValueError(
            f"{where}/config.json: model_type is {shown(found.get('model_type'))}, expected clip_text_model"
        )
    state = read_weights(folder, part, MODEL)
    floats = usable({key: tensor for key, tensor in state.items() if tensor.is_floating_point()}, where)
    try:
        with quiet_transformers(), tempfile.TemporaryDirectory() as local:
            for name in _TOKENIZER_FILES:
                if folder.has(words, name):
                    (Path(local) / name).write_bytes(storage.read_bytes(folder.file(words, name)))
            tokenizer = CLIPTokenizer.from_pretrained(local)
            length = min(tokenizer.model_max_length, MOST_TOKENS)
            ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            plain = {key: value for key, value in found.items() if "attn_implementation" not in key}
            model, report = encoder.from_pretrained(
                None,
                config=CLIPTextConfig.from_dict(plain),
                state_dict=floats,
                output_loading_info=True,
                dtype=torch.float32,
            )
            if wrong := report["missing_keys"] or report["unexpected_keys"]:
                raise ValueError(f"its weights lack, or have besides, {some(wrong)}")
            with torch.no_grad():
                return model.eval()(ids["input_ids"], output_hidden_states=True)
    # Tokenizers and text encoders have their own exceptions for damaged files.
    except Exception as error:
        raise ValueError(f"{where}: the prompt cannot be embedded: {one_line(error)}") from error
