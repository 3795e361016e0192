"""Continual learning of a frozen CLIP with mixture-of-experts adapters (MoE-Adapters, CVPR 2024).

One alphabet for shapes in every docstring and comment:

    B  images, or samples of any kind, in a batch
    C  class prompts
    L  tokens of a sample: patches and class token, or words
    D  width of a tower
    E  experts in a block
    K  experts chosen for a sample
    R  bottleneck of an expert
    T  tasks learned so far

and where these do not fit: N pictures or prompts of a whole set, F the joint space of both towers, S the
width of the selector's features, H and W pixels.
"""
