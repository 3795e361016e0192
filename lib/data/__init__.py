"""Tasks: their pictures, and what the frozen CLIP says of them."""
