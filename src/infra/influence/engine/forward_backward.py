"""One visit to the data with a backward pass: every tracked block's inputs and output gradients, batch by
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.errors import ModelError
from infra.influence.engine.batches import (
    DEFAULT_MAX_TOKENS,
    Batch,
    Progress,
    batches,
    check_finite,
    empty_batch,
    halving_on_memory,
    plan_batches,
)
from infra.influence.engine.functional import Backbone, engine_mode, scatter
from infra.influence.engine.layer_inputs import Capture, LayerCall
from infra.influence.engine.totals import totals_of
from infra.models.tracked import Block, TrackedWeights

Consume = Callable[[Batch, Block, list[LayerCall]], None]
"""Adds one block's share of one batch to whatever is being summed. Called once per block and batch."""


def forward_backward(
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    consume: Consume,
    weights: Callable[[Batch], Tensor] | None = None,
    labels: Callable[[Batch], Callable[[Tensor, Tensor], Tensor]] | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    packed: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[Batch, Tensor]]:
    """Backward through ``sum_t w_t log p(label_t | z_<t)`` for every batch, handing each block to
    ``consume``.

    ``weights(batch) [B, T]`` default to 1 and ``labels(batch)`` to the data's tokens. Yields each batch, when
    it is complete, with its log-probabilities ``[B, T]``. Nothing happens until it is iterated.

    On a model sharded over processes this is a collective, so a process with fewer batches than others makes further,
    empty ones: ``consume`` sees them under the index ``len(examples)``, with zero gradients and no position counted;
    they are not yielded.
    Raises :class:`ModelError` naming the record when a log-likelihood or a gradient is NaN or infinite.
    """
    capture = Capture(Backbone(model), tracked)
    device, own = device_of(model), len(plan_batches(examples, max_tokens))
    fillers = (empty_batch(len(examples), device) for _ in range(totals_of(model).passes(own) - own))
    done = 0
    for number, planned in enumerate(chain(batches(examples, max_tokens, device, packed), fillers)):

        def work(batch: Batch, finished: set[str]) -> Tensor:
            def on_block(block: Block, calls: list[LayerCall]) -> None:
                if block.key not in finished:
                    _check_calls(block, calls, batch)
                    consume(batch, block, calls)
                    finished.add(block.key)

            head = capture.backward_pass(
                batch, on_block, weights(batch) if weights else None, labels(batch) if labels else None
            )
            return scatter(head.log_probability, head.where, batch.input_ids.shape)

        with engine_mode(model):
            if number == 0:
                capture.backbone.check(planned)
            finished_batches = list(halving_on_memory(planned, work))
        if number >= own:
            continue
        for batch, values in finished_batches:
            check_finite(values, batch, "its log-likelihood")
            done += len(batch.examples)
            yield batch, values
        if progress is not None:
            progress(done, len(examples))


def run_through(passes: Iterator[Any]) -> None:
    """Iterate for the side effects only."""
    for _ in passes:
        pass


def device_of(model: Any) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


def _check_calls(block: Block, calls: Sequence[LayerCall], batch: Batch) -> None:
    for call in calls:
        if bool(torch.isfinite(call.gradients.sum())):
            continue
        bad = (~torch.isfinite(call.gradients)).any(dim=1).nonzero()[:, 0]
        if len(bad) == 0:
            continue
        position = int(bad[0]) if call.where is None else int(call.where[bad[0]])
        owner = int(batch.owner().reshape(-1)[position])
        raise ModelError(
            f"record {batch.examples[owner].id}: its gradient at {block.key} is NaN or infinite; "
            "look at its text, or run the model in float32"
        )
