"""The derivative of every token's log-probability along directions: three routes to one number.

    I(token t) = < grad log p(z_t | z_<t), v >

``forward`` carries a tangent through one forward pass (exact; several directions share the primal).
``difference`` takes two plain forward passes at theta +- eps v (any kernel; float32 or float64).
``hooks`` gives the other decomposition, by input position: g_t . (V a_t), from one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap

from infra.errors import ModelError
from infra.influence.engine.batches import Batch
from infra.influence.engine.contract import position_scores
from infra.influence.engine.functional import Backbone, accumulator, head_pass, scatter
from infra.influence.engine.layer_inputs import Capture, LayerCall
from infra.models.tracked import Block

Stacked = dict[str, Tensor]
"""``K`` directions: one tensor ``[K, *shape]`` per parameter name."""
TANGENTS_PER_PASS = 8
"""Directions carried by one forward-mode pass. They share the tokens of a batch, since each has its own activations."""


def hidden_tangents(backbone: Backbone, batch: Batch, directions: Stacked) -> tuple[Tensor, Tensor]:
    """Final hidden states ``[B, T, d]`` and their derivatives ``[K, B, T, d]`` along each direction.

    One pass: all tangents share the primal. Keeps nothing for a backward pass.
    """
    own = dict(backbone.wrapped.named_parameters())
    names = [name for name in directions if name not in backbone.head_parameters or _also_inside(backbone, name)]
    primals = {name: own[name].detach() for name in names}

    def run(parameters: Stacked) -> Tensor:
        return backbone.hidden(batch, parameters)

    k = len(next(iter(directions.values())))
    with torch.no_grad():
        if not names:
            hidden = backbone.hidden(batch)
            return hidden, hidden.new_zeros(k, *hidden.shape)
        tangents = {name: directions[name].to(primals[name].dtype) for name in names}
        if k == 1:
            hidden, tangent = _jvp(run, primals, {name: t[0] for name, t in tangents.items()})
            return hidden, tangent[None]
        out_dims: Any = (None, 0)
        hidden, tangent = vmap(partial(_jvp, run, primals), out_dims=out_dims)(tangents)
        return hidden, tangent


def forward_scores(backbone: Backbone, batch: Batch, directions: Stacked) -> Tensor:
    """``loss`` scores ``[K, B, T]`` in forward mode, indexed by the predicting position.

    The head is crossed backwards: with u_t the gradient of log p_t with respect to the hidden state h_t, each
    direction's score is u_t . dh_t, so the vocabulary is visited twice whatever the number of directions.
    """
    hidden, tangent = hidden_tangents(backbone, batch, directions)
    head = head_pass(backbone, hidden, batch)
    assert head.gradient is not None
    rows = tangent.flatten(1, 2)[:, head.where]
    dtype = accumulator(rows.dtype)
    values = torch.linalg.vecdot(rows.to(dtype), head.gradient.to(dtype))
    in_head = {name: t for name, t in directions.items() if name in backbone.head_parameters}
    if in_head:
        values = values + _head_scores(backbone, hidden, batch, in_head)
    return scatter(values, head.where, batch.input_ids.shape)


def difference_scores(backbone: Backbone, batch: Batch, directions: Stacked, step: float | None = None) -> Tensor:
    """``loss`` scores ``[K, B, T]`` by central differences: (log p(theta + e v) - log p(theta - e v)) / 2e.

    ``e |v| = step |theta|`` over the tracked weights; ``step`` defaults to the cube root of the dtype's
    rounding error, where truncation and rounding balance. Raises :class:`ModelError` for 16-bit weights,
    which are too coarse.
    """
    own = dict(backbone.wrapped.named_parameters())
    primals = {name: own[name].detach() for name in directions}
    dtype = next(iter(primals.values())).dtype
    if dtype not in (torch.float32, torch.float64):
        raise ModelError(f"central differences need float32 weights, not {dtype}; use route='forward'")
    size = _norm(list(primals.values()))
    relative = step if step is not None else torch.finfo(dtype).eps ** (1 / 3)
    k = len(next(iter(directions.values())))
    rows = []
    with torch.no_grad():
        for i in range(k):
            length = _norm([t[i] for t in directions.values()])
            if length == 0.0:
                rows.append(batch.input_ids.new_zeros(batch.input_ids.shape, dtype=dtype))
                continue
            e = relative * size / length
            sides = []
            for sign in (1.0, -1.0):
                moved = {name: torch.add(p, directions[name][i].to(p), alpha=sign * e) for name, p in primals.items()}
                hidden = backbone.hidden(batch, moved)
                sides.append(head_pass(backbone, hidden, batch, gradient=False, parameters=moved))
            change = (sides[0].log_probability - sides[1].log_probability) / (2 * e)
            rows.append(scatter(change, sides[0].where, batch.input_ids.shape))
    return torch.stack(rows)


def hook_scores(capture: Capture, batch: Batch, directions: Mapping[str, Tensor]) -> Tensor:
    """``position`` scores ``[K, B, T]``, indexed by the input position; ``directions`` are block matrices."""
    k = len(next(iter(directions.values())))
    dtype = accumulator(next(iter(directions.values())).dtype)
    scores = torch.zeros(k, *batch.input_ids.shape, dtype=dtype, device=batch.input_ids.device)

    def on_block(block: Block, calls: list[LayerCall]) -> None:
        scores.add_(position_scores(block, calls, directions[block.key], batch))

    capture.backward_pass(batch, on_block)
    return scores


def _head_scores(backbone: Backbone, hidden: Tensor, batch: Batch, directions: Stacked) -> Tensor:
    """The share of tracked weights inside the head: the head's own derivative at fixed hidden states, ``[K,
    R]``.
    """
    own = dict(backbone.wrapped.named_parameters())
    primals = {name: own[name].detach() for name in directions}
    k = len(next(iter(directions.values())))

    def run(parameters: Stacked) -> Tensor:
        return head_pass(backbone, hidden, batch, gradient=False, parameters=parameters).log_probability

    with torch.no_grad():
        one = [{name: t[i].to(primals[name].dtype) for name, t in directions.items()} for i in range(k)]
        return torch.stack([_jvp(run, primals, tangents)[1] for tangents in one])


def _jvp(run: Callable[[Stacked], Tensor], primals: Stacked, tangents: Stacked) -> tuple[Tensor, Tensor]:
    """``run(primals)`` and its derivative along ``tangents``."""
    value, tangent = jvp(run, (primals,), (tangents,))[:2]
    return value, tangent


def _also_inside(backbone: Backbone, name: str) -> bool:
    """Whether a parameter of the head is used before it too (tied with the embeddings)."""
    parameter = dict(backbone.wrapped.named_parameters())[name]
    return any(parameter is p for p in backbone._inner[0].base_model.parameters())


def _norm(tensors: Sequence[Any]) -> float:
    return sum(float(t.double().square().sum()) for t in tensors) ** 0.5
