"""Seeing, for every tracked block, the inputs of its matrix product and the gradients of its outputs.

For a linear map y = W a the gradient of a loss is sum_t g_t a_t^T, with g_t the gradient with respect to y_t:
everything that influence needs of a backward pass is in these two matrices, and the backward pass itself
never has to form a weight gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from infra.errors import ModelError
from infra.influence.engine.batches import Batch
from infra.influence.engine.experts import watcher
from infra.influence.engine.functional import Backbone, HeadPass, head_pass, scatter
from infra.influence.engine.recompute import layers_run_again, recomputes
from infra.models.layers import layers_of
from infra.models.tracked import Block, TrackedWeights


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a block's layer in a batch: ``inputs [R, in]``, output ``gradients [R, out]``.

    ``where`` int64 ``[R]``: the batch's flat position of each row; None when the rows are all positions in
    order. ``source`` is the module's input tensor itself: gate and up, or q, k and v, have the same one.
    """

    inputs: Tensor
    gradients: Tensor
    where: Tensor | None
    source: Tensor

    def widened(self, block: Block) -> Tensor:
        """Inputs ``[R, in (+ 1)]``, with a column of ones when the block has a bias."""
        if block.bias is None:
            return self.inputs
        return torch.cat([self.inputs, self.inputs.new_ones(len(self.inputs), 1)], dim=1)


OnBlock = Callable[[Block, list[LayerCall]], None]
"""Told a block and all of its calls in a batch, once, as soon as the backward pass has seen the last of them.
"""


@dataclass(eq=False)
class _Watch:
    """The state of one forward and backward pass. ``again``: a layer runs for the second time, its products counted."""

    on_block: OnBlock
    deferred: frozenset[str]
    blocks: dict[str, Block]
    positions: int
    expected: dict[str, int] = field(default_factory=dict)
    seen: dict[str, list[LayerCall]] = field(default_factory=dict)
    rows: Tensor | None = None
    again: bool = False

    def attach(self, block: Block, source: Tensor, outputs: Tensor) -> None:
        """Remember the inputs of one product, and wait for the gradient of its outputs."""
        if self.rows is None and source.shape[:-1].numel() != self.positions:
            raise ModelError(
                f"{block.key} is applied to {source.shape[:-1].numel()} rows and not to the {self.positions} positions "
                "of the batch, so it cannot be tracked; leave it out of the pattern"
            )
        if not self.again:
            self.expected[block.key] = self.expected.get(block.key, 0) + 1
        if not torch.is_grad_enabled():  # the layer will run again
            return
        if not outputs.requires_grad:  # nothing tracked lies before this one: the gradient starts here
            outputs.requires_grad_(True)
        outputs.register_hook(partial(self._gradient, block, source, self.rows))

    def _gradient(self, block: Block, source: Tensor, where: Tensor | None, gradient: Tensor) -> None:
        calls = self.seen.setdefault(block.key, [])
        inputs = source.detach()
        calls.append(
            LayerCall(
                inputs.reshape(-1, inputs.shape[-1]),
                gradient.detach().reshape(-1, gradient.shape[-1]),
                where,
                source,
            )
        )
        if len(calls) == self.expected[block.key] and block.key not in self.deferred:
            self.on_block(block, self.seen.pop(block.key))

    @contextmanager
    def second_run(self) -> Iterator[None]:
        """A layer runs again in the block."""
        self.again = True
        try:
            yield
        finally:
            self.again = False

    def flush(self) -> None:
        """Hand over what was not complete: blocks of the output head, and calls that no loss flows through."""
        for key in list(self.seen):
            self.on_block(self.blocks[key], self.seen.pop(key))


class Capture:
    """Hooks for the tracked weights of one model."""

    def __init__(self, backbone: Backbone, tracked: TrackedWeights) -> None:
        model = backbone.wrapped
        self.backbone, self.tracked = backbone, tracked
        self._model = model
        self._modules = dict(model.named_modules())
        self._blocks = {block.key: block for block in tracked.blocks}
        head = backbone.head_parameters
        self._deferred = frozenset(block.key for block in tracked.blocks if block.weight in head)
        self._always = [b.key for b in tracked.blocks if b.expert is None and b.weight not in head]
        self._experts = {
            (id(self._modules[w.modules[0]]), w.name.rsplit(".", 1)[-1]): w.blocks
            for w in tracked.weights
            if w.kind == "experts"
        }

    def backward_pass(
        self,
        batch: Batch,
        on_block: OnBlock,
        weights: Tensor | None = None,
        labels: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> HeadPass:
        """Forward and backward of ``sum_t weights_t log p(label_t | z_<t)`` over the batch's loss positions.

        ``weights [B, T]`` default to 1; ``labels`` as in :func:`head_pass`. No weight gradient is formed. Activations
        are recomputed inside :func:`.recompute.recomputed_activations`.
        """
        with (
            self._watching(on_block, batch.input_ids.numel()) as watch,
            torch.enable_grad(),
            self._recomputing(watch),
        ):
            hidden = self.backbone.hidden(batch)
            unused = [key for key in self._always if key not in watch.expected]
            if unused:
                raise ModelError(
                    f"{unused[0]} is not called as a layer in the forward pass ({len(unused)} such weights), so it "
                    "cannot be tracked; leave it out of the pattern"
                )
            head = head_pass(self.backbone, hidden, batch, weights=weights, labels=labels, chunk=partial(_rows, watch))
            assert head.gradient is not None
            if hidden.requires_grad:
                gradient = scatter(head.gradient.T, head.where, batch.input_ids.shape).movedim(0, -1)
                torch.autograd.backward(hidden, gradient)
            watch.flush()
        return head

    @contextmanager
    def _watching(self, on_block: OnBlock, positions: int) -> Iterator[_Watch]:
        watch = _Watch(on_block, self._deferred, self._blocks, positions)
        frozen = [p for p in self._model.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        handles = [
            self._modules[name].register_forward_hook(partial(_linear_call, watch, weight.blocks[0]))
            for weight in self.tracked.weights
            if weight.kind != "experts"
            for name in weight.modules
        ]
        token = watcher.set(partial(self._expert_call, watch))
        try:
            yield watch
        finally:
            watcher.reset(token)
            for handle in handles:
                handle.remove()
            for parameter in frozen:
                parameter.requires_grad_(True)

    def _recomputing(self, watch: _Watch) -> AbstractContextManager[None]:
        if not recomputes():
            return nullcontext()
        watched = {self._modules[name] for weight in self.tracked.weights for name in weight.modules}
        layers = layers_of(self._model)
        tracked = {layer for layer in layers if not watched.isdisjoint(layer.modules())}
        return layers_run_again(layers, tracked, watch.second_run)

    def _expert_call(
        self,
        watch: _Watch,
        module: nn.Module,
        name: str,
        expert: int,
        inputs: Tensor,
        outputs: Tensor,
        where: Tensor,
    ) -> None:
        blocks = self._experts.get((id(module), name))
        if blocks is not None:
            with _rows(watch, where):
                watch.attach(blocks[expert], inputs, outputs)


def _linear_call(watch: _Watch, block: Block, _: nn.Module, args: tuple, output: Any) -> None:
    watch.attach(block, args[0], output)


@contextmanager
def _rows(watch: _Watch, where: Tensor) -> Iterator[None]:
    before, watch.rows = watch.rows, where
    try:
        yield
    finally:
        watch.rows = before
