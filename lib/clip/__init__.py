"""The frozen CLIP: loading it, its two towers, its class features."""

from lib.clip.backbone import Backbone, encode_text, preprocess, zero_shot_classifier
from lib.clip.loading import load_clip
