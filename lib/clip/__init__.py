"""The frozen CLIP: loading it, its two towers, its class features."""

from lib.clip.backbone import Backbone, encode_text, load_clip, preprocess, zero_shot_classifier
