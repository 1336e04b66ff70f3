"""Whether forward mode can carry a model, found out on a few tokens before any work starts.

A kernel without a forward derivative would fail hours into a run, and an attention that bypasses transformers'
``AttentionInterface`` would be attributed wrongly in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from infra.errors import ModelError
from infra.influence.engine.batches import Batch, build_batch, is_memory
from infra.influence.engine.derivative import hidden_tangents
from infra.influence.engine.functional import Backbone, engine_mode
from infra.influence.engine.hooks import hooks_on

PROBE_TOKENS = 16
OTHER_ROUTES = "use route='difference' or decomposition='position'"


def check_forward_mode(backbone: Backbone, batch: Batch, directions: dict[str, Tensor]) -> None:
    """Run the first tokens of ``batch`` once with the model's own attention and once in forward mode.

    ``directions``: ``K`` stacked tangents ``[K, *shape]`` by parameter name; at most two are carried.
    Raises :class:`ModelError` naming the module that has no forward derivative, or the model whose hidden states are
    others under the engine's attention.
    """
    model = backbone.wrapped
    probe = _first_tokens(batch)
    few = {name: t[:2] for name, t in directions.items()}
    with torch.no_grad(), engine_mode(model):
        own = backbone.hidden(probe)
    running: list[str] = []
    try:
        with engine_mode(model, forward_mode=True), _names_of_running(model, running):
            hidden, _ = hidden_tangents(backbone, probe, few)
    except (NotImplementedError, RuntimeError) as error:
        if is_memory(error):
            raise
        where = running[-1] if running else type(model).__name__
        if hooks := hooks_on(model, where.split(" ")[0]):
            raise ModelError(
                f"{where} carries a forward hook ({', '.join(hooks)}), and it or the module has no forward derivative "
                f"({str(error).strip().splitlines()[0][:200]}); remove the hook, or {OTHER_ROUTES}"
            ) from error
        raise ModelError(
            f"{where} has no forward derivative ({str(error).strip().splitlines()[0][:200]}); {OTHER_ROUTES}"
        ) from error
    difference = float((hidden - own).float().norm() / own.float().norm().clamp_min(1e-30))
    if difference > (1e-2 if own.dtype in (torch.float32, torch.float64) else 0.2):  # a NaN names its record later
        raise ModelError(
            f"{type(model).__name__} does not run its attention through transformers' AttentionInterface (its hidden "
            f"states change by {difference:.2g} in forward mode); {OTHER_ROUTES}"
        )


def _first_tokens(batch: Batch) -> Batch:
    example = batch.examples[0]
    n = min(len(example), PROBE_TOKENS)
    cut = replace(example, input_ids=example.input_ids[:n], loss_mask=example.loss_mask[:n], token_weights=None)
    return build_batch([cut], [0], batch.input_ids.device)


@contextmanager
def _names_of_running(model: nn.Module, running: list[str]) -> Iterator[None]:
    """Keep ``running`` the stack of modules whose forward pass has begun and not ended."""

    def begin(label: str, *_: Any) -> None:
        running.append(label)

    def end(*_: Any) -> None:
        running.pop()

    handles = []
    for name, module in model.named_modules():
        label = f"{name or 'the model'} ({type(module).__name__})"
        handles += [module.register_forward_pre_hook(partial(begin, label)), module.register_forward_hook(end)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
