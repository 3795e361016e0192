"""Tasks: their pictures and prompts, and the frozen CLIP's features of them."""
