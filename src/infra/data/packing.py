"""Token sequences into rectangular batches: several documents a row (packed), or one a row (padded).

Packed rows restart their position ids at every document; with no attention mask transformers then builds
exact block attention, so no token sees another document. Padding forms documents of its own and carries no
weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One row of ``length`` tokens.

    ``input_ids``, ``position_ids``: int64 ``[length]``. ``loss_mask``: bool ``[length]``. ``weights``:
    float32 ``[length]``, the weight of each token as a prediction (example weight times token weight, 0
    outside the loss). ``starts``: int64 ``[documents]`` where each document begins; ``ids`` their records.
    ``n_tokens`` of the row are real, the rest padding.
    """

    ids: tuple[str, ...]
    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    loss_mask: NDArray[np.bool_]
    weights: NDArray[np.float32]
    starts: NDArray[np.int64]
    n_tokens: int


def loss_weights(example: TokenizedExample) -> NDArray[np.float32]:
    """What multiplies the loss of each token.

    Args:
        example: one example of T tokens.

    Returns:
        float32 ``[T]``: example weight times token weight under the loss, 0 elsewhere.
    """
    weights = example.loss_mask.astype(np.float32) * np.float32(example.weight)
    return weights if example.token_weights is None else weights * example.token_weights


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Group items so that no group's lengths sum to more than a capacity.

    Each item, longest first and ties by index, goes to the first group with room. A segment tree finds it, O(n log n).

    Args:
        lengths: of the items.
        capacity: of a group, in the same unit.

    Returns:
        The indices of each group.

    Raises:
        InputError: an item is longer than the capacity.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    if order and lengths[order[0]] > capacity:
        raise InputError(
            f"item {order[0]} of {lengths[order[0]]} tokens does not fit a row of {capacity}; raise the length"
        )
    size = 1
    while size < max(len(lengths), 1):
        size *= 2
    room = [capacity] * (2 * size)
    groups: list[list[int]] = []
    for i in order:
        node = 1
        while node < size:
            node = 2 * node if room[2 * node] >= lengths[i] else 2 * node + 1
        slot = node - size
        if slot == len(groups):
            groups.append([])
        groups[slot].append(i)
        room[node] -= lengths[i]
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return groups


def pack(examples: Sequence[TokenizedExample], length: int, pad_id: int = 0) -> list[PackedBatch]:
    """Put several examples into each row, first fit decreasing.

    Args:
        examples: to pack; the result depends only on their lengths and order.
        length: of a row, in tokens.
        pad_id: fills what is left.

    Raises:
        InputError: an example is longer than ``length``, by record.
    """
    for example in examples:
        if len(example) > length:
            raise InputError(
                f"record {example.id}: {len(example)} tokens do not fit a row of {length}; raise the length"
            )
    groups = first_fit_decreasing([len(e) for e in examples], length)
    return [_row([examples[i] for i in group], length, pad_id) for group in groups]


def _row(group: Sequence[TokenizedExample], length: int, pad_id: int) -> PackedBatch:
    ends = list(accumulate(len(e) for e in group))
    starts, n = [0, *ends[:-1]], ends[-1]
    input_ids = np.full(length, pad_id, dtype=np.int64)
    position_ids = np.empty(length, dtype=np.int64)
    loss_mask = np.zeros(length, dtype=np.bool_)
    weights = np.zeros(length, dtype=np.float32)
    for example, start, end in zip(group, starts, ends):
        input_ids[start:end] = example.input_ids
        position_ids[start:end] = np.arange(end - start)
        loss_mask[start:end] = example.loss_mask
        weights[start:end] = loss_weights(example)
    position_ids[n:] = np.arange(length - n)
    return PackedBatch(
        ids=tuple(e.id for e in group),
        input_ids=input_ids,
        position_ids=position_ids,
        loss_mask=loss_mask,
        weights=weights,
        starts=np.array(starts, dtype=np.int64),
        n_tokens=n,
    )


def collate(examples: Sequence[TokenizedExample], pad_id: int) -> dict[str, torch.Tensor]:
    """A batch of examples as right-padded tensors.

    Args:
        examples: B of them, T tokens the longest.
        pad_id: the token id to pad with.

    Returns:
        Tensors ``[B, T]``: ``input_ids``, ``attention_mask``, ``position_ids`` int64; ``labels`` int64, -100 outside
        the loss (not shifted, since transformers shifts); ``loss_mask`` bool; ``weights`` float32
        (:func:`loss_weights`).
    """
    import torch

    batch, width = len(examples), max((len(e) for e in examples), default=0)
    input_ids = np.full((batch, width), pad_id, dtype=np.int64)
    attention = np.zeros((batch, width), dtype=np.int64)
    mask = np.zeros((batch, width), dtype=np.bool_)
    weights = np.zeros((batch, width), dtype=np.float32)
    for i, example in enumerate(examples):
        n = len(example)
        input_ids[i, :n] = example.input_ids
        attention[i, :n] = 1
        mask[i, :n] = example.loss_mask
        weights[i, :n] = loss_weights(example)
    labels = np.where(mask, input_ids, -100)
    positions = np.broadcast_to(np.arange(width, dtype=np.int64), (batch, width)).copy()
    return {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(attention),
        "position_ids": torch.from_numpy(positions),
        "labels": torch.from_numpy(labels),
        "loss_mask": torch.from_numpy(mask),
        "weights": torch.from_numpy(weights),
    }


def collate_packed(rows: Sequence[PackedBatch]) -> dict[str, torch.Tensor]:
    """Packed rows of one length as tensors.

    There is no attention mask on purpose: with restarting position ids transformers keeps the documents apart.

    Args:
        rows: B of them, as :func:`pack` makes them.

    Returns:
        Tensors ``[B, length]``.
    """
    import torch

    input_ids = np.stack([r.input_ids for r in rows])
    mask = np.stack([r.loss_mask for r in rows])
    return {
        "input_ids": torch.from_numpy(input_ids),
        "position_ids": torch.from_numpy(np.stack([r.position_ids for r in rows])),
        "labels": torch.from_numpy(np.where(mask, input_ids, -100)),
        "loss_mask": torch.from_numpy(mask),
        "weights": torch.from_numpy(np.stack([r.weights for r in rows])),
    }
