"""Synthetic influence tables whose effects are known."""

import numpy as np
import pandas as pd


def made(n=400, n_folds=8, seed=0, effect=0.0, by_length=0.0, fold_noise=0.3, domains=("math", "code")):
    """Examples with random attributes; level 5 of each domain is worth ``effect`` more, each token
    ``by_length``.

    Returns examples, fold scores ``[n, n_folds]`` and the folds' table (first half of them 'math', the rest
    'code').
    """
    rng = np.random.default_rng(seed)
    domain = np.array(domains)[np.arange(n) % len(domains)]
    difficulty = rng.integers(1, 6, n)
    tokens = 40 + rng.poisson(10 * difficulty) + rng.integers(0, 60, n)
    score = rng.standard_t(6, n) + effect * (difficulty == 5) + by_length * tokens
    scores = score[:, None] + fold_noise * rng.normal(size=(n, n_folds))
    examples = pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(n)],
            "set": "train",
            "domain": domain,
            "difficulty": difficulty,
            "style": rng.choice(["symbolic", "conversational"], n),
            "has_verification": rng.random(n) < 0.5,
            "n_response_tokens": tokens,
        }
    )
    folds = pd.DataFrame(
        {
            "fold": [f"f{i}" for i in range(n_folds)],
            "target": np.where(np.arange(n_folds) < n_folds // 2, "math", "code"),
            "n_queries": 10 + np.arange(n_folds),
        }
    )
    return examples, scores.astype(np.float32), folds
