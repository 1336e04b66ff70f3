"""The training loss: weighted, summed over response tokens, to be divided by a constant."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from infra.train.batches import Microbatch


def weighted_nll(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i * -log p(target_i), a scalar. ``logits`` [n, V], ``targets`` int64 [n], ``weights`` [n].

    Computed in float32 at least (float64 stays float64).
    """
    wide = logits.dtype if logits.dtype in (torch.float32, torch.float64) else torch.float32
    nll = F.cross_entropy(logits.to(wide), targets, reduction="none")
    return (nll * weights.to(wide)).sum()


def microbatch_loss(model: Any, batch: Microbatch) -> Tensor:
    """Summed weighted loss of one microbatch (not divided by the normaliser).

    Token t is predicted from position t - 1; the first position of a document has weight 0, so no packed
    document is predicted from its neighbour. In a packed row the vocabulary product is taken at predicting
    positions only.
    """
    ids, weights = batch.inputs["input_ids"], batch.weights[:, 1:]
    where = weights != 0
    if batch.packed:
        keep = where[0].nonzero().squeeze(1)
        logits = model(**batch.inputs, use_cache=False, logits_to_keep=keep).logits[0]
    else:
        logits = model(**batch.inputs, use_cache=False).logits[:, :-1][where]
    return weighted_nll(logits, ids[:, 1:][where], weights[where])
