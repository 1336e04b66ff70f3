"""The microbatches of each optimiser step, as tensors, padded or packed; both carry the same loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from infra.data import (
    TokenizedExample,
    collate,
    collate_packed,
    first_fit_decreasing,
    loss_weights,
    pack,
)
from infra.train.config import SFTConfig
from infra.train.plan import padded_groups


@dataclass(frozen=True, slots=True)
class Microbatch:
    """``inputs`` go to the model, ``input_ids`` int64 ``[B, T]`` among them; ``weights`` float32 ``[B, T]``
    weigh each token's loss."""

    inputs: dict[str, Tensor]
    weights: Tensor
    ids: tuple[str, ...]
    packed: bool
    n_tokens: int


class StepDataset(Dataset[dict[str, Any]]):
    """Item i is optimiser step i: ``{"microbatches": [...]}``. Examples of weight 0 are left out; they add
    nothing."""

    def __init__(
        self,
        examples: Sequence[TokenizedExample],
        steps: Sequence[np.ndarray],
        config: SFTConfig,
        pad_id: int,
    ) -> None:
        self.examples, self.steps, self.config, self.pad_id = examples, steps, config, pad_id
        self.live = np.array([bool(loss_weights(e).any()) for e in examples])

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        chosen = [self.examples[i] for i in self.steps[index] if self.live[i]]
        return {"microbatches": microbatches(chosen, self.config, self.pad_id)}


def microbatches(examples: Sequence[TokenizedExample], config: SFTConfig, pad_id: int) -> list[Microbatch]:
    """The examples of one step in as few, and as little padded, passes as ``max_tokens_per_microbatch``
    allows."""
    if not examples:
        return []
    lengths = [len(e) for e in examples]
    if not config.packing:
        groups = padded_groups(lengths, config.max_tokens_per_microbatch)
        return [_padded([examples[i] for i in group], pad_id) for group in groups]
    capacity = max(config.max_tokens_per_microbatch, max(lengths))
    return [_packed([examples[i] for i in group], pad_id) for group in first_fit_decreasing(lengths, capacity)]


def _padded(group: Sequence[TokenizedExample], pad_id: int) -> Microbatch:
    """Right padding needs no attention mask: causal attention never looks right, and padding has weight 0."""
    batch = collate(group, pad_id)
    return Microbatch(
        {"input_ids": batch["input_ids"]},
        batch["weights"],
        tuple(e.id for e in group),
        False,
        sum(len(e) for e in group),
    )


def _packed(group: Sequence[TokenizedExample], pad_id: int) -> Microbatch:
    [row] = pack(group, sum(len(e) for e in group), pad_id)
    batch = collate_packed([row])
    inputs = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"]}
    return Microbatch(inputs, batch["weights"], row.ids, True, row.n_tokens)


def cut_up(batch: Microbatch, pieces: int) -> list[Microbatch]:
    """A padded microbatch in at most ``pieces`` of nearly equal numbers of rows; a packed one stays whole."""
    rows = len(batch.ids)
    if pieces == 1 or batch.packed or rows == 1:
        return [batch]
    borders = np.linspace(0, rows, min(pieces, rows) + 1).round().astype(int)
    return [
        Microbatch(
            {name: tensor[a:b] for name, tensor in batch.inputs.items()},
            batch.weights[a:b],
            batch.ids[a:b],
            False,
            round(batch.n_tokens * (b - a) / rows),
        )
        for a, b in pairwise(borders.tolist())
    ]


def to_device(batch: Microbatch, device: torch.device) -> Microbatch:
    """The same microbatch on a device."""
    inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.inputs.items()}
    return Microbatch(inputs, batch.weights.to(device, non_blocking=True), batch.ids, batch.packed, batch.n_tokens)
