"""Directions of low rank: each block's matrix as a short sum of outer products.

The gradient of one query is a sum over few tokens, so after preconditioning its singular values fall off fast:
V ~ sum_r l_r r_r^T. A position then costs 2 r (o + i) per query instead of 2 o i, and a hundred queries fit in
memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from infra.errors import InputError
from infra.influence.engine.batches import Batch
from infra.influence.engine.functional import accumulator
from infra.influence.engine.layer_inputs import LayerCall
from infra.models.tracked import Block

ROW_ELEMENTS = 1 << 23


@dataclass(frozen=True)
class LowRank:
    """``Q`` directions over every block. ``left[key] [Q, o, r]``, ``right[key] [Q, i (+ 1), r]``: V = left right^T.

    ``kept [Q]``: the share of each direction's squared norm that is kept, over all blocks.
    """

    left: dict[str, Tensor] = field(repr=False)
    right: dict[str, Tensor] = field(repr=False)
    kept: Tensor

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of each block."""
        return {key: t.shape[2] for key, t in self.left.items()}


def compress(matrices: dict[str, Tensor], energy: float = 0.95, max_rank: int = 64) -> LowRank:
    """Truncate ``matrices[key] [Q, o, i]`` to the lowest rank per block that keeps ``energy`` on average.

    ``energy`` is the share of squared singular values kept, averaged over the directions. Singular vectors are exact
    for small blocks; a block much wider than ``max_rank`` is first projected onto the range found by three subspace
    iterations (Halko, Martinsson and Tropp 2011), and ``kept`` counts what that projection loses.
    Raises :class:`InputError` for an energy outside (0, 1].
    """
    if not 0.0 < energy <= 1.0:
        raise InputError(f"energy is {energy}; it must lie above 0 and not above 1")
    left, right = {}, {}
    kept = total = torch.zeros(())
    for key, stacked in matrices.items():
        left[key], right[key], squares, whole = truncate(stacked, energy, max_rank)
        kept, total = kept + squares, total + whole
    return LowRank(left, right, kept / total.clamp_min(torch.finfo(torch.float64).tiny))


def truncate(stacked: Tensor, energy: float, max_rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One block of :func:`compress`: left ``[Q, o, r]``, right ``[Q, i, r]``, and float64 ``[Q]`` the squared norm that
    is kept and the whole one.
    """
    u, s, vh = _leading(stacked, max_rank)
    squares = s.double().square()
    whole = torch.linalg.vector_norm(stacked, dim=(1, 2), dtype=torch.float64).square()
    share = (squares.cumsum(1) / whole.clamp_min(torch.finfo(torch.float64).tiny)[:, None]).mean(0)
    needed = (share < energy - 1e-12) if energy < 1 else (s > torch.finfo(s.dtype).eps * s[:, :1]).any(0)[1:]
    rank = min(int(needed.sum()) + 1, max_rank, s.shape[1])
    left, right = (u[:, :, :rank] * s[:, None, :rank]).contiguous(), vh[:, :rank].transpose(1, 2).contiguous()
    return left, right, squares[:, :rank].sum(1), whole


def _leading(stacked: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular triplets of ``[Q, o, i]``, at least ``rank`` of them where there are so many."""
    width = rank + 8
    if 4 * width >= min(stacked.shape[1:]):
        return torch.linalg.svd(stacked, full_matrices=False)
    generator = torch.Generator(device=stacked.device).manual_seed(0)
    probe = torch.randn(stacked.shape[2], width, generator=generator, dtype=stacked.dtype, device=stacked.device)
    basis = torch.linalg.qr(stacked @ probe)[0]
    for _ in range(3):
        basis = torch.linalg.qr(stacked @ torch.linalg.qr(stacked.transpose(1, 2) @ basis)[0])[0]
    u, s, vh = torch.linalg.svd(basis.transpose(1, 2) @ stacked, full_matrices=False)
    return basis @ u, s, vh


def stack_padded(pieces: Sequence[Tensor]) -> Tensor:
    """``[d, r_q]`` of Q directions as ``[Q, d, r]``, padded with zeros to the largest rank."""
    rank = max(piece.shape[1] for piece in pieces)
    return torch.stack([torch.nn.functional.pad(piece, (0, rank - piece.shape[1])) for piece in pieces])


def concatenate(parts: Sequence[LowRank]) -> LowRank:
    """Directions of several parts behind one another; blocks are padded with zeros to their largest rank."""
    left, right = (
        {key: stack_padded([piece for side in sides for piece in side[key]]) for key in sides[0]}
        for sides in ([p.left for p in parts], [p.right for p in parts])
    )
    return LowRank(left, right, torch.cat([p.kept for p in parts]))


def position_scores(block: Block, calls: Sequence[LayerCall], directions: LowRank, batch: Batch) -> Tensor:
    """``(g_t^T left_q) . (right_q^T a_t)`` at every position, ``[Q, B, T]``. Cost 2 R Q r (o + i)."""
    left, right = directions.left[block.key], directions.right[block.key]
    q, out, rank = left.shape
    flat_left = left.transpose(0, 1).reshape(out, q * rank)
    flat_right = right.transpose(0, 1).reshape(right.shape[1], q * rank)
    wide = accumulator(left.dtype)
    scores = left.new_zeros(q, batch.input_ids.numel(), dtype=wide)
    step = max(1, ROW_ELEMENTS // (q * rank))
    for call in calls:
        inputs = call.widened(block)
        for start in range(0, len(inputs), step):
            rows = slice(start, start + step)
            products = (call.gradients[rows] @ flat_left).mul_(inputs[rows] @ flat_right)
            values = products.reshape(-1, q, rank).sum(2, dtype=wide).T
            if call.where is None:
                scores[:, rows] += values
            else:
                scores.index_add_(1, call.where[rows], values)
    return scores.reshape(q, *batch.input_ids.shape)
