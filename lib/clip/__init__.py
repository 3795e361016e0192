"""The frozen CLIP."""
