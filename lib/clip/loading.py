"""Loading a CLIP: from a folder of the tiny CLIP, a folder in open_clip's own form, or by an open_clip name.

OpenAI's weights need a name with "quickgelu": with another activation they give other numbers in silence.
"""

import difflib
import json
import pickle
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import load_state_dict
from open_clip.pretrained import get_pretrained_cfg
from safetensors import SafetensorError
from torch import Tensor

from lib.clip import tiny, towers
from lib.clip.backbone import Backbone, Tokenizer, fingerprint

OPENAI_SIZES = {"input_resolution", "context_length", "vocab_size"}
TINY_COLOURS = (0.5, 0.5, 0.5)  # mean and std of the tiny CLIP, which names none
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError)


def load_clip(model: str, pretrained: str = "", root: Path = Path()) -> Backbone:
    """A frozen CLIP in single precision.

    model: a folder (a relative one starts at `root`), or an open_clip name; then pretrained is one of its
    tags, a file of weights, or "" for random weights. Raises ValueError for what does not exist or fit,
    ConnectionError where a download fails.
    """
    folder = root / model
    if folder.is_dir():
        if pretrained:
            raise ValueError(f"{model} is a folder with its own weights; leave pretrained {pretrained!r} empty")
        clip, tokenizer = _from_folder(folder)
    else:
        clip, tokenizer = _from_name(model, pretrained, root)
    towers.check(clip)
    high, wide = clip.visual.image_size
    if high != wide:
        raise ValueError(f"{model} takes pictures of {high} x {wide} pixels; only square ones are supported")
    about = open_clip.get_model_preprocess_cfg(clip)
    mean, std = (tuple(about.get(key, TINY_COLOURS)) for key in ("mean", "std"))
    return Backbone(clip.eval(), tokenizer, high, mean, std, model, fingerprint(clip))


def check_noted(backbone: Backbone, file: Path) -> None:
    """Raises ValueError if a CLIP is not the one that was written down; without a note nothing is known of it."""
    if not file.exists():
        return
    try:
        noted = str(json.loads(file.read_text())["fingerprint"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no note of a CLIP ({error!r}); the stage `data` makes it again") from error
    if noted != backbone.fingerprint:
        raise ValueError(
            f"{backbone.name} has other weights ({backbone.fingerprint[:12]}) than when the study began "
            f"({noted[:12]}, {file}); put those back, or let the stage `data` begin it anew"
        )


def _from_folder(folder: Path) -> tuple[Any, Tokenizer]:
    if (folder / "tiny_clip.json").exists():
        clip = tiny.load(folder)
        return clip, open_clip.SimpleTokenizer(context_length=clip.context_length)
    if not (folder / "open_clip_config.json").exists():
        raise ValueError(f"{folder} is no backbone: it has neither tiny_clip.json nor open_clip_config.json")
    name = f"local-dir:{folder}"
    try:
        return open_clip.create_model(name, require_pretrained=True), open_clip.get_tokenizer(name)
    except UNREADABLE as error:
        raise ValueError(f"{folder} holds no whole model of open_clip: {error}") from error


def _from_name(model: str, pretrained: str, root: Path) -> tuple[Any, Tokenizer]:
    known = open_clip.list_models()
    if model not in known:
        near = ", ".join(difflib.get_close_matches(model, known, n=5, cutoff=0.4)) or "none"
        raise ValueError(f"there is no folder {model} and no open_clip model of that name; near matches: {near}")
    tag, file = get_pretrained_cfg(model, pretrained), root / pretrained
    if tag:
        _check_activation(model, pretrained, bool(tag.get("quick_gelu", False)))
    elif pretrained and not file.is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(f"pretrained is {pretrained!r}: no file of that name, and no tag of {model}; its tags: {tags}")
    try:
        if pretrained and not tag:
            clip: Any = open_clip.create_model(model, load_weights=False)
            clip.load_state_dict(_state_of(file, model))
        else:
            clip = open_clip.create_model(model, pretrained=pretrained or None)
        return clip, open_clip.get_tokenizer(model)
    except UNREADABLE as error:
        if tag:
            raise ConnectionError(
                f"the weights {pretrained!r} of {model} could not be fetched ({error}); without a network, "
                "give pretrained the path of a downloaded file, or model a local folder"
            ) from error
        raise ValueError(f"{pretrained or 'open_clip'} has no weights that fit {model}: {error}") from error


def _state_of(file: Path, model: str) -> dict[str, Tensor]:
    """The weights of a file: open_clip's, or OpenAI's own, which has three sizes beside them and means QuickGELU."""
    state: Any = load_state_dict(str(file))
    if state.keys() >= OPENAI_SIZES:
        _check_activation(model, file.name, True)
    return {name: tensor for name, tensor in state.items() if name not in OPENAI_SIZES}


def _check_activation(model: str, tag: str, wanted: bool) -> None:
    """Raises ValueError if the weights were trained with the other activation (QuickGELU or GELU)."""
    config = open_clip.get_model_config(model) or {}
    if bool(config.get("quick_gelu", False)) != wanted:
        right = f"{model}-quickgelu" if wanted else model.removesuffix("-quickgelu")
        raise ValueError(f"the weights {tag!r} were trained with {'Quick' if wanted else ''}GELU; use model {right}")
