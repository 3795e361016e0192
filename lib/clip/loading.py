"""Loads a CLIP: from a folder of the tiny CLIP, a folder in open_clip's own form, or by an open_clip name.

OpenAI's weights need a model name that ends in "quickgelu": with plain GELU they silently give other numbers.
"""

import difflib
import pickle
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import load_state_dict
from open_clip.pretrained import get_pretrained_cfg
from safetensors import SafetensorError

from lib.clip import tiny, towers
from lib.clip.backbone import Backbone, fingerprint

OPENAI_SIZES = {"input_resolution", "context_length", "vocab_size"}  # stand beside the weights in OpenAI's files
TINY_COLOURS = (0.5, 0.5, 0.5)  # mean and std of the tiny CLIP, which names none
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError)


def load_clip(model: str, pretrained: str = "", root: Path = Path()) -> Backbone:
    """A frozen CLIP in single precision.

    model: a folder, relative to `root`, or an open_clip name. pretrained: with a name, one of its tags, a file of
    weights relative to `root`, or "" for random weights. Raises ValueError if a value does not exist or does not fit,
    ConnectionError if a download fails.
    """
    folder = root / model
    if not folder.is_dir():
        clip = _by_name(model, pretrained, root / pretrained)
    elif pretrained:
        raise ValueError(f"{model} is a folder with its own weights; leave pretrained {pretrained!r} empty")
    else:
        clip = _from_folder(folder)
    towers.check(clip)
    height, width = clip.visual.image_size
    if height != width:
        raise ValueError(f"{model} takes images of {height} x {width} pixels; only square ones are supported")
    colours = open_clip.get_model_preprocess_cfg(clip)
    mean, std = (tuple(colours.get(key, TINY_COLOURS)) for key in ("mean", "std"))
    return Backbone(clip.eval(), _tokenizer(clip, model, folder), height, mean, std, model, fingerprint(clip))


def _tokenizer(clip: Any, model: str, folder: Path) -> Any:
    if (folder / "tiny_clip.json").exists():
        return open_clip.SimpleTokenizer(context_length=clip.context_length)
    return open_clip.get_tokenizer(f"local-dir:{folder}" if folder.is_dir() else model)


def _from_folder(folder: Path) -> Any:
    if (folder / "tiny_clip.json").exists():
        return tiny.load(folder)
    if not (folder / "open_clip_config.json").exists():
        raise ValueError(f"{folder} is no backbone: it has neither tiny_clip.json nor open_clip_config.json")
    try:
        return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    except UNREADABLE as error:
        raise ValueError(f"{folder} holds no whole model of open_clip: {error}") from error


def _by_name(model: str, pretrained: str, file: Path) -> Any:
    names = open_clip.list_models()
    if model not in names:
        near = ", ".join(difflib.get_close_matches(model, names, n=5, cutoff=0.4)) or "none"
        raise ValueError(f"there is no folder {model} and no open_clip model of that name; near matches: {near}")
    if not pretrained:
        return open_clip.create_model(model)
    if get_pretrained_cfg(model, pretrained):
        return _from_tag(model, pretrained)
    if not file.is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(f"pretrained is {pretrained!r}: no file of that name, and no tag of {model}; its tags: {tags}")
    return _from_file(model, file)


def _from_tag(model: str, tag: str) -> Any:
    _check_activation(model, tag, bool(get_pretrained_cfg(model, tag).get("quick_gelu", False)))
    try:
        return open_clip.create_model(model, pretrained=tag)
    except UNREADABLE as error:
        raise ConnectionError(
            f"the weights {tag!r} of {model} could not be fetched ({error}); without a network, "
            "give pretrained the path of a downloaded file, or model a local folder"
        ) from error


def _from_file(model: str, file: Path) -> Any:
    """A model with the weights of a file: open_clip's, or OpenAI's own, which mean QuickGELU."""
    clip: Any = open_clip.create_model(model, load_weights=False)
    try:
        state: Any = load_state_dict(str(file))
    except UNREADABLE as error:
        reason = f"{file} holds no weights that are safe to read ({type(error).__name__})"
        raise ValueError(f"{reason}; give a state dict, best as safetensors") from error
    if state.keys() >= OPENAI_SIZES:
        _check_activation(model, file.name, True)
    try:
        clip.load_state_dict({name: tensor for name, tensor in state.items() if name not in OPENAI_SIZES})
    except UNREADABLE as error:
        first = " ".join(str(error).split())[:300]  # torch names every tensor, each on a line of its own
        raise ValueError(f"{file} has no weights that fit {model}: {first}") from error
    return clip


def _check_activation(model: str, weights: str, quick: bool) -> None:
    """Raises ValueError if weights that were trained with QuickGELU (or GELU) would meet the other activation."""
    config = open_clip.get_model_config(model) or {}
    if bool(config.get("quick_gelu", False)) != quick:
        right = f"{model}-quickgelu" if quick else model.removesuffix("-quickgelu")
        raise ValueError(f"the weights {weights!r} were trained with {'Quick' if quick else ''}GELU; use model {right}")
