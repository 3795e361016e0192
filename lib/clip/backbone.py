"""The frozen CLIP: how it is loaded, its class features, and how it computes (paper, Sec. 3.1; Radford et al. 2021).

It is loaded from a folder of the tiny CLIP, from a folder in open_clip's own form or in that of transformers, from the
Hugging Face hub (hub.py), or by an open_clip name. OpenAI's weights need a name that ends in "quickgelu": with plain
GELU they silently give other numbers.
"""

import difflib
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.factory import load_state_dict
from open_clip.pretrained import get_pretrained_cfg
from safetensors import SafetensorError
from torch import Tensor

from lib.clip import hub, tiny, towers

Encode = Callable[[Tensor], Tensor]  # tokens (N, L) to features (N, F)
Tokenizer = Callable[[list[str]], Tensor]  # prompts to tokens (N, L), padded to the context length
Colours = tuple[float, float, float]
OPENAI_SIZES = {"input_resolution", "context_length", "vocab_size"}  # stand beside the weights in OpenAI's files
OPEN_CLIP = "open_clip_config.json"
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError)


@dataclass(frozen=True)
class Backbone:
    """A CLIP in eval mode, its tokenizer, and how its images are prepared.

    image_size: pixels a side. mean, std: of the colours, for pixels from 0 to 1. name: what it was loaded by.
    fingerprint: a hash of all its weights.
    """

    model: open_clip.CLIP
    tokenizer: Tokenizer
    image_size: int
    mean: Colours
    std: Colours
    name: str
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.model.logit_scale.device

    def to(self, device: torch.device) -> "Backbone":
        """Moves the model to a device. Returns this backbone."""
        self.model.to(device)
        return self

    def pixels(self, images: Tensor) -> Tensor:
        """The model's inputs (B, 3, H, W), on its device, for uint8 images (B, 3, H, W) on any device."""
        return preprocess(images.to(self.device), self.mean, self.std)


def preprocess(images: Tensor, mean: Colours, std: Colours) -> Tensor:
    """Scales uint8 images (B, 3, H, W) to 0 to 1, then normalises them by mean and std."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}; give uint8, 0 to 255, as they are stored")
    shift, scale = (torch.tensor(c, device=images.device).view(3, 1, 1) for c in (mean, std))
    return (images.float() / 255 - shift) / scale


@torch.no_grad()
def encode_text(model: open_clip.CLIP, tokens: Tensor, batch: int = 256) -> Tensor:
    """The frozen CLIP's features (N, F), not normalised, of tokens (N, L). Padding is cut batch by batch."""
    return torch.cat([towers.text_pass(model, part).features() for part in tokens.split(batch)])


def zero_shot_classifier(encode: Encode, tokenizer: Tokenizer, class_names: list[str], templates: list[str]) -> Tensor:
    """Class features (C, F) of unit length: the mean over templates ("a photo of a {}.") of unit features."""
    bad = [template for template in templates if "{}" not in template]
    if bad or not templates:
        raise ValueError(f"template {bad[0]!r} has no {{}} for the class name" if bad else "there is no template")
    prompts = ([template.format(name) for name in class_names] for template in templates)
    features = torch.stack([F.normalize(encode(tokenizer(each)), dim=-1) for each in prompts])  # (templates, C, F)
    return F.normalize(features.mean(dim=0), dim=-1)  # (C, F)


def set_up(threads: int, kind: str, precision: str) -> torch.device:
    """Sets the number of CPU threads, and allows TF32 on a GPU unless precision is "fp32". Returns the device.

    kind: "auto", "cpu" or "cuda". Raises ValueError for cuda without a GPU.
    """
    gpu = torch.cuda.is_available()
    if kind == "cuda" and not gpu:
        raise ValueError("compute.device is cuda, and PyTorch sees no GPU; choose auto or cpu")
    torch.set_num_threads(threads)
    if kind == "cpu" or not gpu:
        return torch.device("cpu")
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    return torch.device("cuda", 0)


def is_bf16(precision: str, device: torch.device) -> bool:
    """True if training computes matrix products in bf16: for "bf16", and for "auto" on a GPU. Weights stay in fp32."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def peak_gpu_mb() -> float | None:
    """The most memory that tensors have occupied on the GPU, in megabytes; None without a GPU."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else None


def load_clip(model: str, pretrained: str = "", root: Path = Path()) -> Backbone:
    """A frozen CLIP in single precision.

    model: a folder, relative to `root`, hf:OWNER/NAME@COMMIT (hub.py), or an open_clip name. pretrained: with a name,
    one of its tags, a file of weights relative to `root`, or "" for random weights. Raises ValueError if a value does
    not exist or does not fit, ConnectionError if a download fails.
    """
    of_hub = model.startswith(hub.HUB)
    if (of_hub or (root / model).is_dir()) and pretrained:
        raise ValueError(f"{model} has its own weights; leave pretrained {pretrained!r} empty")
    folder = hub.fetch(model) if of_hub else root / model
    clip = _from_folder(folder) if folder.is_dir() else _by_name(model, pretrained, root / pretrained)
    towers.check(clip)
    height, width = clip.visual.image_size
    if height != width:
        raise ValueError(f"{model} takes images of {height} x {width} pixels; only square ones are supported")
    if folder.is_dir() and not (folder / OPEN_CLIP).exists():
        tokenizer: Any = open_clip.SimpleTokenizer(context_length=clip.context_length)
    else:
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}" if folder.is_dir() else model)
    colours = open_clip.get_model_preprocess_cfg(clip)
    mean, std = (tuple(colours.get(key, [0.5] * 3)) for key in ("mean", "std"))  # the tiny CLIP names none
    return Backbone(clip.eval(), tokenizer, height, mean, std, model, fingerprint(clip))


def fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all tensors of a model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _from_folder(folder: Path) -> Any:
    if (folder / "tiny_clip.json").exists():
        return tiny.load(folder)
    if not (folder / OPEN_CLIP).exists():
        if not (folder / "config.json").exists():
            names = f"tiny_clip.json, {OPEN_CLIP} or config.json"
            raise ValueError(f"{folder} is no backbone: it has no {names}")
        return hub.load(folder)
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
    if tag := get_pretrained_cfg(model, pretrained):
        _check_activation(model, pretrained, tag.get("quick_gelu", False))
        try:
            return open_clip.create_model(model, pretrained=pretrained)
        except UNREADABLE as error:
            advice = "without a network, give pretrained the path of a downloaded file, or model a local folder"
            reason = f"the weights {pretrained!r} of {model} could not be fetched ({error})"
            raise ConnectionError(f"{reason}; {advice}") from error
    if not file.is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(f"pretrained is {pretrained!r}: no file of that name, and no tag of {model}; its tags: {tags}")
    return _from_file(model, file)


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
    if config.get("quick_gelu", False) != quick:
        right = f"{model}-quickgelu" if quick else model.removesuffix("-quickgelu")
        raise ValueError(f"the weights {weights!r} were trained with {'Quick' if quick else ''}GELU; use model {right}")
