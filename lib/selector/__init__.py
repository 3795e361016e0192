"""DDAS and its features: which task's router answers a picture, or the frozen CLIP."""

from lib.selector.ddas import CLIP, DDAS, Autoencoder, Decision, GaussianSelector, SelectorSettings, count_routes
from lib.selector.features import AlexNetFeatures, ClsToken, extract, selector_features
