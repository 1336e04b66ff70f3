"""Fused mixture-of-experts layers, run expert by expert so that each expert's inputs can be seen.

Transformers keeps the experts of a layer in three-dimensional parameters, which module hooks cannot look into
and whose fused kernels have no forward-mode derivative. While the engine runs, experts are dispatched to the
plain loop below, registered with transformers' ``ExpertsInterface`` under :data:`NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAME = "infra_loop"

ExpertCall = Callable[[nn.Module, str, int, Tensor, Tensor, Tensor], None]
"""Told (module, attribute, expert, inputs [R, in], outputs [R, out], flat positions [R])."""

watcher: ContextVar[ExpertCall | None] = ContextVar("watcher", default=None)
"""Who is told of every expert's matrix product, when somebody is.

A context variable, because transformers calls the loop below, with arguments of its own.
"""


def loop_over_experts(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Transformers' experts interface: ``hidden_states [N, d]``, ``top_k_index`` and ``top_k_weights [N,
    k]``.

    Without in-place writes, so that it can be differentiated forward and vectorised over tangents.
    """
    outputs, positions = [], []
    first = "gate_up_proj" if getattr(self, "has_gate", True) else "up_proj"
    for expert in range(self.down_proj.shape[0]):
        where, slot = torch.where(top_k_index == expert)
        if len(where) == 0:
            continue
        inner = _product(self, first, expert, hidden_states[where], where)
        inner = self._apply_gate(inner) if getattr(self, "has_gate", True) else self.act_fn(inner)
        outer = _product(self, "down_proj", expert, inner, where)
        if getattr(self, "has_post_expert_norm", False):
            outer = self.post_expert_norm(outer)
        outputs.append(outer * top_k_weights[where, slot, None])
        positions.append(where)
    total = torch.cat(outputs)
    return torch.zeros_like(hidden_states).index_add(0, torch.cat(positions), total.to(hidden_states.dtype))


def _product(module: Any, attribute: str, expert: int, inputs: Tensor, where: Tensor) -> Tensor:
    weight = getattr(module, attribute)[expert]
    bias = getattr(module, f"{attribute}_bias", None)
    matrix = weight.T if getattr(module, "is_transposed", False) else weight
    outputs = F.linear(inputs, matrix, None if bias is None else bias[expert])
    told = watcher.get()
    if told is not None:
        told(module, attribute, expert, inputs, outputs, where)
    return outputs


@contextmanager
def engine_experts(model: Any) -> Iterator[None]:
    """Run fused experts through :func:`loop_over_experts`; the model's own way comes back on exit."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config") and hasattr(m, "_apply_gate")}
    if not configs:
        yield
        return
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(NAME, loop_over_experts)
    before = {key: c._experts_implementation for key, c in configs.items()}
    for config in configs.values():
        config._experts_implementation_internal = NAME
    try:
        yield
    finally:
        for key, config in configs.items():
            config._experts_implementation_internal = before[key]
