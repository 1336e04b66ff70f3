"""Causal attention with a forward derivative, in memory linear in the length.

Stock fused kernels have no forward-mode derivative, and the plain formula keeps the ``[T, T]`` probabilities
and their tangents. Here the primal is the stock kernel; the tangent is computed in chunks of query rows,
each seeing only the keys it attends to. With S = scale Q K^T, P = softmax(S), O = P V:

    dS = scale (dQ K^T + Q dK^T)
    dO = (P * dS) V - rowsum(P * dS) * O + P dV

Registered with transformers as attention implementation :data:`NAME`, for any model that dispatches through
``AttentionInterface``. Sliding windows, packed documents, attention sinks and softcapped scores (Gemma 2:
S = c tanh(S' / c), so dS = (1 - tanh^2) dS') come with it; a mask that is neither causal nor a sliding window is
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infra.errors import ModelError

NAME = "infra_forward"
CHUNK_ELEMENTS = 1 << 22
"""Elements of one chunk's score matrix over all heads and rows of the batch (16 MB in float32)."""


@dataclass(frozen=True)
class Window:
    """A sliding window: a query sees itself and the ``size - 1`` positions before it."""

    size: int


@dataclass(frozen=True)
class Layout:
    """Who sees whom: causal attention inside each document ``[start, stop)`` of a row, within the window if
    any.
    """

    documents: tuple[tuple[int, int], ...]
    window: int | None

    def chunks(self, elements_a_row: int) -> Iterator[tuple[int, int, int]]:
        """(first query row, end, first key that any of these rows sees), a bounded number of elements each.

        The last rows come first: they see most keys, and what is freed after them has room for all that follow.
        """
        for first, end in reversed(self.documents):
            step = max(16, CHUNK_ELEMENTS // max(1, elements_a_row * (end - first)))
            for start in reversed(range(first, end, step)):
                seen = first if self.window is None else max(first, start - self.window + 1)
                yield start, min(start + step, end), seen

    def visible(self, start: int, stop: int, first: int, device: Any) -> Tensor:
        """bool ``[stop - start, stop - first]``: which keys each query row sees."""
        ones = torch.ones(stop - start, stop - first, dtype=torch.bool, device=device)
        causal = ones.tril(start - first)
        return causal if self.window is None else causal & ones.triu(start - first - self.window + 1)


documents: ContextVar[tuple[tuple[int, int], ...] | None] = ContextVar("documents", default=None)
"""Where the documents of a packed row lie; None when every row is one document.

A context variable, because transformers calls the attention below, with arguments of its own.
"""


def window_mask(
    q_length: int | None = None,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    cache_position: Tensor | None = None,
    mask_function: Callable[..., Tensor] | None = None,
    device: Any = "cpu",
    **_: Any,
) -> Window | None:
    """Transformers' mask interface: None for plain causal attention, else the window; never a matrix.

    Raises :class:`ModelError` for a mask of another kind (chunked, bidirectional, prefix), which
    ``mask_function(batch, head, query, key)`` shows at a few positions around the edges.
    """
    if attention_mask is not None:
        raise ModelError("the engine pads on the right and takes no attention mask; remove the model's own")
    length = q_length if q_length is not None else len(cache_position if cache_position is not None else ())
    window = Window(local_size) if local_size is not None and local_size < length else None
    if mask_function is not None:
        _check_pattern(mask_function, Layout(documents.get() or ((0, length),), local_size), device)
    return window


def _check_pattern(mask_function: Callable[..., Tensor], layout: Layout, device: Any) -> None:
    """Compare the model's mask with the layout, inside each of at most two documents, at O(1) positions."""
    for first, end in layout.documents[:2]:
        edge = layout.window or 1
        near = {0, 1, edge - 1, edge, edge + 1, 2 * edge, (end - first) // 2, end - first - 1}
        places = torch.tensor(sorted(first + n for n in near if 0 <= n < end - first), device=device)
        zero = torch.zeros((), dtype=torch.int64, device=device)
        query, key = places[:, None], places[None]
        expected = key <= query
        if layout.window is not None:
            expected = expected & (query - key < layout.window)
        if not torch.equal(mask_function(zero, zero, query, key).expand(expected.shape), expected):
            raise ModelError(
                "this model's attention mask is neither causal nor a causal sliding window, which is all that forward "
                "mode knows; use route='difference' or decomposition='position'"
            )


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Window | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    s_aux: Tensor | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface. ``query [B, H, T, D]``, ``key`` and ``value [B, H_kv, T, D]``.

    Returns ``[B, T, H, D]``. ``s_aux [H]`` are attention sinks (GPT-OSS), ``softcap`` bounds the scores (Gemma 2).
    Evaluation mode only.
    """
    if dropout:
        raise ModelError("attribution needs evaluation mode; call model.eval() first")
    scale = float(scaling if scaling is not None else query.shape[-1] ** -0.5)
    layout = Layout(
        documents.get() or ((0, query.shape[2]),), attention_mask.size if attention_mask is not None else None
    )
    output = _CausalAttention.apply(query, key, value, s_aux, scale, softcap, layout)
    return output.transpose(1, 2), None


class _CausalAttention(torch.autograd.Function):
    """Forward and forward-mode only; a backward pass uses the model's own attention."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, scale: float, softcap: float | None, layout: Layout
    ) -> Tensor:
        if layout.window is None and sinks is None and softcap is None:
            grouped = q.shape[1] != k.shape[1]
            parts = [
                F.scaled_dot_product_attention(
                    q[:, :, s:e], k[:, :, s:e], v[:, :, s:e], is_causal=True, scale=scale, enable_gqa=grouped
                )
                for s, e in layout.documents
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        parts, scaled = [], q * scale
        for start, stop, first in layout.chunks(q.shape[0] * q.shape[1]):
            probabilities, _ = _probabilities(scaled, k, sinks, softcap, layout, start, stop, first)
            parts.append(_heads(probabilities @ v[:, :, first:stop], q.shape[1]))
        return torch.cat(parts[::-1], dim=2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        q, k, v, sinks, scale, softcap, layout = inputs
        ctx.save_for_forward(q, k, v, sinks, output)
        ctx.scale, ctx.softcap, ctx.layout = scale, softcap, layout

    @staticmethod
    def jvp(ctx: Any, dq: Tensor | None, dk: Tensor | None, dv: Tensor | None, *_: Any) -> Tensor | None:
        q, k, v, sinks, output = ctx.saved_tensors  # sinks are one-dimensional, so never tracked: no tangent
        if dq is None and dk is None and dv is None:
            return None
        scaled = q * ctx.scale
        # dS = [scale dQ, scale Q] [K, dK]^T: one product, nothing as large as S to add up
        left = [t for t in (None if dq is None else dq * ctx.scale, None if dk is None else scaled) if t is not None]
        right = [t for t in (None if dq is None else k, dk) if t is not None]
        queries, keys = (torch.cat(left, -1), torch.cat(right, -1)) if left else (None, None)
        parts = []
        for start, stop, first in ctx.layout.chunks(q.shape[0] * q.shape[1]):
            probabilities, slope = _probabilities(scaled, k, sinks, ctx.softcap, ctx.layout, start, stop, first)
            total = None if dv is None else probabilities @ dv[:, :, first:stop]
            if queries is not None and keys is not None:
                weighted = _queries(queries, k, start, stop) @ keys[:, :, first:stop].mT
                weighted = weighted.mul_(probabilities if slope is None else probabilities.mul_(slope))
                own = weighted @ v[:, :, first:stop]
                own = own - weighted.sum(-1, keepdim=True) * _queries(output, k, start, stop)
                total = own if total is None else total + own
            assert total is not None
            parts.append(_heads(total, q.shape[1]))
        return torch.cat(parts[::-1], dim=2)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise ModelError(
            f"attention {NAME!r} has a forward derivative and no backward pass; train and take gradients with 'sdpa' "
            "or 'eager', to which the engine returns after each forward-mode pass"
        )


def _queries(q: Tensor, k: Tensor, start: int, stop: int) -> Tensor:
    """``[B, H_kv, group * rows, D]``: the rows of all query heads that share a key head, so that no key is copied."""
    return q[:, :, start:stop].unflatten(1, (k.shape[1], -1)).flatten(2, 3)


def _heads(rows: Tensor, heads: int) -> Tensor:
    """``[B, H, rows, D]`` from what :func:`_queries` made."""
    return rows.unflatten(2, (heads // rows.shape[1], -1)).flatten(1, 2)


def _probabilities(
    scaled: Tensor,
    k: Tensor,
    sinks: Tensor | None,
    softcap: float | None,
    layout: Layout,
    start: int,
    stop: int,
    first: int,
) -> tuple[Tensor, Tensor | None]:
    """Attention probabilities of query rows ``start..stop``, ``[B, H_kv, group * rows, keys]``, of ``scaled`` queries,
    and the slope of the softcap at each score (None without one).
    """
    scores = _queries(scaled, k, start, stop) @ k[:, :, first:stop].mT
    slope = None
    if softcap is not None:
        bounded = torch.tanh(scores / softcap)
        scores, slope = bounded * softcap, 1 - bounded.square()
    by_head = scores.unflatten(2, (-1, stop - start))
    hidden = ~layout.visible(start, stop, first, scaled.device)
    if layout.window is None:  # all rows see what lies before the first of them
        by_head, hidden = by_head[..., start - first :], hidden[:, start - first :]
    by_head.masked_fill_(hidden, float("-inf"))
    if sinks is None:
        return scores.softmax(-1), slope
    extra = sinks.view(k.shape[1], -1, 1).expand(-1, -1, stop - start).flatten(1, 2)[None, :, :, None]
    joined = torch.cat([scores, extra.expand(len(scores), -1, -1, 1).to(scores.dtype)], dim=-1)
    return joined.softmax(-1)[..., :-1], slope


def register() -> None:
    """Make :data:`NAME` known to transformers; safe to call again."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, window_mask)


@contextmanager
def forward_attention(model: Any) -> Iterator[None]:
    """Run ``model`` with the attention of this module; the model's own comes back on exit."""
    register()
    with use_attention(model, NAME):
        yield


@contextmanager
def use_attention(model: Any, name: str) -> Iterator[None]:
    """Switch the attention implementation of ``model`` and of its sub-models, and back on exit."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    configs = {key: c for key, c in configs.items() if hasattr(c, "_attn_implementation_internal")}
    before = {key: c._attn_implementation_internal for key, c in configs.items()}
    for config in configs.values():
        config._attn_implementation_internal = name
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
