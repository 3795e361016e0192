"""A CLIP in the layout of the transformers library, as most of the Hugging Face hub has it, made one of open_clip.

`hf:OWNER/NAME@COMMIT` is fetched from the hub (HF_ENDPOINT names another), into its cache; a folder with `config.json`
and `model.safetensors` is read where it lies. Only safetensors are read, and only the towers that lib.clip.towers can
run: plain vision transformers.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

HUB = "hf:"
ADDRESS = re.compile(r"hf:([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
VOCABULARY = 49408  # of CLIP's byte pairs, which open_clip's tokenizer has
FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

NAMES = {  # of a tensor in transformers: in open_clip
    "logit_scale": "logit_scale",
    "text_projection.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",  # transformers spells it so
    "vision_model.post_layernorm": "visual.ln_post",
}
IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
TOWERS = {"text_model": "transformer", "vision_model": "visual.transformer"}
BLOCK = re.compile(r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
PARTS = ("q_proj", "k_proj", "v_proj")


def snapshot(
    repository: str,
    commit: str,
    patterns: list[str],
    kind: Literal["model", "dataset"] = "model",
    folder: Path | None = None,
) -> Path:
    """The folder of a repository's files at a commit, fetched if they are not there; a cut download goes on.

    folder: where they go; None = the hub's cache. Raises ValueError for what the hub does not have, ConnectionError
    without a network.
    """
    place = f"{'data set ' if kind == 'dataset' else ''}{repository} at commit {commit}"
    try:
        return Path(
            snapshot_download(repository, repo_type=kind, revision=commit, allow_patterns=patterns, local_dir=folder)
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ValueError(f"the hub has no {place}; its page lists the commits") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ConnectionError(f"{place} could not be fetched ({type(error).__name__})") from error


def fetch(address: str) -> Path:
    """The folder of the model hf:OWNER/NAME@COMMIT. Raises ValueError for another address, and as `snapshot` does."""
    if not (parts := ADDRESS.fullmatch(address)):
        raise ValueError(f"{address} is no address of a model; write hf:OWNER/NAME@COMMIT, with all 40 digits")
    repository, commit = parts.groups()
    try:
        return snapshot(repository, commit, FILES)
    except ConnectionError as error:
        advice = "without a network, give model a folder with its config.json and model.safetensors"
        raise ConnectionError(f"{error}; {advice}") from error


def load(folder: Path) -> open_clip.CLIP:
    """The CLIP of a folder in transformers' layout, in single precision. Raises ValueError if it is no whole CLIP."""
    try:
        config = json.loads((folder / "config.json").read_text())
        model = build(config)
        state = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
        model.load_state_dict(renamed(state))
        colours = folder / "preprocessor_config.json"
        prepared = json.loads(colours.read_text()) if colours.exists() else {}
        model.visual.preprocess_cfg = {
            "mean": tuple(prepared.get("image_mean", OPENAI_MEAN)),
            "std": tuple(prepared.get("image_std", OPENAI_STD)),
        }
    except (OSError, SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        first = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder} holds no whole CLIP of transformers: {first}") from error
    return model.eval()


def build(config: dict[str, Any]) -> Any:
    """The CLIP of open_clip with the sizes of a config.json of transformers, and random weights."""
    vision, text = config["vision_config"], config["text_config"]
    if config.get("model_type") != "clip":
        raise ValueError(f"model_type is {config.get('model_type')!r}, not clip")
    if text.get("vocab_size", VOCABULARY) != VOCABULARY:
        raise ValueError(f"it has {text['vocab_size']} tokens; CLIP's own byte pairs are {VOCABULARY}")
    kinds = {part.get("hidden_act", "quick_gelu") for part in (vision, text)}
    if len(kinds) > 1 or not kinds <= {"quick_gelu", "gelu"}:
        raise ValueError(f"hidden_act is {' and '.join(sorted(kinds))}; both towers must have quick_gelu or both gelu")
    return open_clip.CLIP(
        config.get("projection_dim", 512),
        open_clip.CLIPVisionCfg(
            layers=vision.get("num_hidden_layers", 12),
            width=(width := vision.get("hidden_size", 768)),
            head_width=width // vision.get("num_attention_heads", 12),
            mlp_ratio=vision.get("intermediate_size", 3072) / width,
            patch_size=vision.get("patch_size", 32),
            image_size=vision.get("image_size", 224),
        ),
        open_clip.CLIPTextCfg(
            context_length=text.get("max_position_embeddings", 77),
            vocab_size=VOCABULARY,
            width=(words := text.get("hidden_size", 512)),
            heads=text.get("num_attention_heads", 8),
            layers=text.get("num_hidden_layers", 12),
            mlp_ratio=text.get("intermediate_size", 2048) / words,
        ),
        quick_gelu="quick_gelu" in kinds,
    )


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of transformers' CLIPModel as open_clip has it. Raises ValueError for a tensor that it lacks."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        whole, _, part = name.rpartition(".")
        if name.endswith("position_ids"):
            continue  # 0, 1, 2, ...: older files hold it
        if block := BLOCK.fullmatch(name):
            tower, number, layer, kind = block.groups()
            place = f"{TOWERS[tower]}.resblocks.{number}"
            if layer.removeprefix("self_attn.") not in PARTS:
                found[f"{place}.{IN_BLOCK[layer]}.{kind}"] = tensor
            elif layer.endswith(PARTS[0]):
                three = [state[name.replace(PARTS[0], other)] for other in PARTS]
                found[f"{place}.attn.in_proj_{kind}"] = torch.cat(three)
        elif name in NAMES:
            found[NAMES[name]] = tensor.T if name.endswith("projection.weight") else tensor
        elif whole in NAMES:
            found[f"{NAMES[whole]}.{part}"] = tensor
        else:
            raise ValueError(f"it has a tensor {name}, which a CLIP of plain vision transformers does not have")
    return found
