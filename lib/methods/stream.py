"""The evidence of a stream: pictures that come one after another are often of one task, and often not.

A hidden Markov model: with chance s the next picture is of any task, all alike; else it is of the task of the picture
before. How often a stream changes is not known, so every s of CHANGES is followed, and its weight is the chance that it
gave to the pictures so far (Bayesian averaging; there is nothing to set). In a shuffled stream s = 1 gets the weight,
and what came before no longer counts. No picture is kept: the state has a number for every s and task.
"""

import numpy as np
import torch
from torch import Tensor

CHANGES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


def in_stream(chances: Tensor, owners: Tensor) -> Tensor:
    """Chances (N, K) of each picture's answers, given the pictures before it; row n does not depend on later rows.

    chances: those of each picture by itself, rows that sum to 1. owners (K,): of which task each answer is.
    """
    tasks, owner = owners.unique(return_inverse=True)
    likelihoods = torch.zeros(len(chances), len(tasks)).to(chances).index_add_(1, owner, chances)
    priors = torch.from_numpy(_priors(likelihoods.double().cpu().numpy())).to(chances)
    given = chances * priors[:, owner]
    return given / given.sum(dim=1, keepdim=True)


def _priors(likelihoods: np.ndarray) -> np.ndarray:
    """Of each picture the chances (N, T) of the tasks before it is seen, from how likely (N, T) each task makes it."""
    count, tasks = likelihoods.shape
    s = np.array(CHANGES)[:, None]
    task, weights = np.full((len(s), tasks), 1 / tasks), np.full(len(s), 1 / len(s))
    priors = np.empty((count, tasks))
    for n, likelihood in enumerate(likelihoods):
        before = (1 - s) * task + s / tasks
        priors[n] = weights @ before
        task = before * likelihood
        evidence = task.sum(axis=1)
        task /= evidence[:, None]
        weights = weights * evidence / (weights @ evidence)
    return priors


def in_blocks(counts: list[int], length: int, seed: int = 0) -> Tensor:
    """An order (N,) of the pictures of tasks with so many each, in which `length` of one task or more come in a row.

    Blocks are shuffled, and pictures within a task.
    """
    rng, ends = np.random.default_rng(seed), np.cumsum(counts)
    tasks = [rng.permutation(task) for task in np.split(np.arange(ends[-1]), ends[:-1])]
    blocks = [block for task in tasks for block in np.array_split(task, max(1, len(task) // length))]
    return torch.from_numpy(np.concatenate([blocks[place] for place in rng.permutation(len(blocks))]))
