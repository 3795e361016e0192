"""The mini study's backbone: a tiny CLIP of open_clip's own classes, with convolutions in front of the image tower.

Three strided convolutions replace the patch projection `visual.conv1`. Such a stem (early convolutions, Xiao et al.
2021) lets a small transformer learn shapes within minutes. A saved model is a folder with `tiny_clip.json` and
`tiny_clip.safetensors`, in half precision. Of the token table it holds only the rows that training changed. The other
rows are drawn again from the seed, so that class names may contain words that the model has never met.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

VOCABULARY = 49408  # open_clip's byte-pair tokens
TABLE = "token_embedding.weight"


def stem(width: int) -> nn.Sequential:
    """Three convolutions of stride 2: (B, 3, H, W) to (B, width, H/8, W/8)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, width // 4), (width // 4, width // 2), (width // 2, width)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def token_table(width: int, seed: int) -> Tensor:
    """The token table (VOCABULARY, width) before training. A seed gives the same table on every machine."""
    table = np.random.default_rng(seed).normal(0, 0.02, (VOCABULARY, width))
    return torch.from_numpy(table.astype(np.float32))


def build(config: dict[str, int], seed: int) -> open_clip.CLIP:
    """A tiny CLIP with random weights. `config` has image_size, width, layers, heads, embed, context, text_layers."""
    width, heads = config["width"], config["heads"]
    image: Any = {"layers": config["layers"], "head_width": width // heads, "image_size": config["image_size"]}
    words: Any = {"layers": config["text_layers"], "heads": heads, "context_length": config["context"]}
    vision = open_clip.CLIPVisionCfg(width=width, patch_size=8, **image)
    text = open_clip.CLIPTextCfg(width=width, vocab_size=VOCABULARY, **words)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = open_clip.CLIP(config["embed"], vision, text)
        model.visual.conv1 = stem(width)
    model.token_embedding.weight.data = token_table(width, seed)
    return model


def save(model: open_clip.CLIP, folder: Path, config: dict[str, int], seed: int, rows: list[int]) -> None:
    """Writes a model's folder; `rows` are the rows of the token table that training changed."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in model.state_dict().items()}
    save_file(state | {TABLE: state[TABLE][rows]}, folder / "tiny_clip.safetensors")
    (folder / "tiny_clip.json").write_text(json.dumps({"config": config, "seed": seed, "rows": rows}) + "\n")


def load(folder: Path) -> open_clip.CLIP:
    """The model that `save` wrote, in single precision and eval mode. Raises ValueError if a part is bad or missing."""
    try:
        about = json.loads((folder / "tiny_clip.json").read_text())
        state = load_file(folder / "tiny_clip.safetensors")
        model = build(about["config"], about["seed"])
        table = model.state_dict()[TABLE].clone()
        table[about["rows"]] = state[TABLE].float()
        model.load_state_dict(state | {TABLE: table})  # to single precision
    except (OSError, SafetensorError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no whole tiny CLIP: {error}. `make pretrain` makes it again") from error
    return model.eval()
