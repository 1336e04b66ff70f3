"""Models larger than one device: decoder layers sharded by FSDP2, directions sharded beside them.

Every decoder layer is one FSDP2 unit; what lies outside the layers (embeddings, final norm, output head) stays whole
on every process. A direction lives as its weight does: a process holds the same rows of both.

Backward passes run under FSDP2's own hooks. Forward mode cannot: FSDP2 gathers a layer's weights by writing into
storage that it resizes, which has no forward derivative (torch 2.13 stops with "aten._has_same_storage_numel.default
does not have a sharding strategy registered"). :func:`gathering` therefore sets those hooks aside and gathers each
layer by :func:`gather`, a function with a derivative (the gather of the tangent) and a batching rule, so that
``vmap(jvp(...))`` carries the shards of many directions through the model layer by layer: at any time one layer's
weights and tangents are whole.

All processes of a group run the same number of passes, since every pass is a collective: a process that has fewer
batches runs empty ones.

Sums (covariances, corrected eigenvalues, gradients of folds) lie as weights do: as the backward pass hands over a
block, its share of the batch is summed over the processes and each keeps its rows (:class:`RowTotals`). Eigenvectors
are read row by row and gathered for the block that is rotated (:class:`GatheredBases`). A process holds one n-th of
each set and one whole block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError, ModelError
from infra.influence import Direction, SavedDirections, TokenScores
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Batch, batches, check_finite, empty_batch
from infra.influence.engine.contract import example_scores
from infra.influence.engine.derivative import TANGENTS_PER_PASS, forward_scores
from infra.influence.engine.eigenbases import Basis
from infra.influence.engine.forward_backward import device_of, forward_backward, run_through
from infra.influence.engine.functional import Backbone, accumulator, causal_model, engine_mode
from infra.influence.engine.layer_inputs import Use
from infra.influence.engine.layers import layers_of, layers_run_by
from infra.influence.engine.totals import Totals
from infra.influence.scores import split_scores
from infra.models.tracked import Block, tracked_by_names
from infra.parallel.world import everyone, on_cpu

Group = dist.ProcessGroup | None


def shard_model(model: Any, device: str = "cpu") -> Any:
    """Shard the decoder layers of ``model`` over all processes, in place; what is not sharded goes to ``device``.

    All weights are frozen. Raises :class:`ModelError` for a model whose layers cannot be found, or one with fused
    experts, whose uses differ from process to process.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    base = causal_model(model).base_model
    layers = layers_of(model)
    if any(hasattr(m, "_apply_gate") and hasattr(m, "is_transposed") for m in model.modules()):
        raise ModelError(f"{type(base).__name__} has fused experts, which cannot be sharded yet; run it data parallel")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    inside = {id(p) for layer in layers for p in layer.parameters()}
    outside = {p for p in base.parameters() if id(p) not in inside}
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (dist.get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    if kind != "cpu":
        for parameter in outside | set(model.get_output_embeddings().parameters()):
            parameter.data = parameter.data.to(mesh.device_type)
        for buffer in model.buffers():
            buffer.data = buffer.data.to(mesh.device_type)
    fully_shard(base, mesh=mesh, ignored_params=outside)
    return model


def is_sharded(model: Any) -> bool:
    """Whether :func:`shard_model` was here."""
    return any(_is_dtensor(p) for p in model.parameters())


class _Gather(torch.autograd.Function):
    """Rows ``[r, ...]`` of every process into ``[rows, ...]``; forward mode and vmap only."""

    generate_vmap_rule = False

    @staticmethod
    def forward(shard: Tensor, rows: int, group: Group) -> Tensor:
        world = dist.get_world_size(group)
        each = -(-rows // world)
        mine = shard.contiguous()
        if len(mine) < each:
            mine = torch.cat([mine, mine.new_zeros(each - len(mine), *mine.shape[1:])])
        whole = mine.new_empty(world * each, *mine.shape[1:])
        dist.all_gather_into_tensor(whole, mine, group=group)
        return whole[:rows]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.rows, ctx.group = inputs

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: Any) -> Tensor | None:
        return None if tangent is None else gather(tangent, ctx.rows, ctx.group)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, shard: Tensor, rows: int, group: Group) -> tuple[Tensor, int]:
        return gather(shard.movedim(in_dims[0], 1), rows, group), 1


def gather(shard: Tensor, rows: int, group: Group = None) -> Tensor:
    """The whole tensor ``[rows, ...]`` of which each process holds ``ceil(rows / world)`` rows, the last ones fewer.

    A collective of ``group``. Differentiable forward and under vmap.
    """
    return _Gather.apply(shard, rows, group)


def scatter_sum(own: Tensor, group: Group = None) -> Tensor:
    """This process's rows (:func:`rows_of`, of the last dimension but one) of the sum of every process's ``own``.

    A collective of ``group``.
    """
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    rows, each = own.shape[-2], -(-own.shape[-2] // world)
    moved = own.movedim(-2, 0)
    if each * world > rows:
        moved = torch.cat([moved, moved.new_zeros(each * world - rows, *moved.shape[1:])])
    mine = moved.new_empty(each, *moved.shape[1:])
    dist.reduce_scatter_tensor(mine, moved.contiguous(), group=group)
    kept = rows_of(rows, rank, world)
    return mine[: kept.stop - kept.start].movedim(0, -2)


def own_rows(rows: int) -> slice:
    """:func:`rows_of` this process, of all."""
    return rows_of(rows, dist.get_rank(), dist.get_world_size())


class RowTotals(Totals):
    """Sums over the data of all processes, of which each holds its rows of every matrix ``[..., rows, columns]``.

    Adding to one is a collective: every process adds to the same ones in the same order. While it does, one is whole.
    """

    @contextmanager
    def into(self, name: str, empty: Callable[[], Tensor]) -> Iterator[Tensor]:
        own = empty()
        yield own
        rows = scatter_sum(own)
        self.tensors[name] = self.tensors[name].add_(rows) if name in self.tensors else rows.contiguous()

    @staticmethod
    def passes(batches: int) -> int:
        return most(batches)

    @staticmethod
    def counts(own: Mapping[str, int]) -> dict[str, int]:
        found = everyone(dict(own))
        return {name: sum(counts[name] for counts in found) for name in own}


class GatheredBases(Mapping[str, Basis]):
    """Eigenvectors of which this process holds ``rows``, whole for the block that is asked for.

    Asking is a collective. Blocks that share inputs and follow one another share the gathered tensor too.
    """

    def __init__(self, rows: Mapping[str, Basis]) -> None:
        self._rows = rows
        self._last: tuple[Tensor | None, Tensor | None] = (None, None)

    def __getitem__(self, key: str) -> Basis:
        own = self._rows[key]
        if self._last[0] is not own.inputs:
            self._last = (None, None)  # let go of before another is there
            self._last = (own.inputs, _gathered_basis(own.inputs))
        inputs = self._last[1]
        assert inputs is not None
        return replace(own, outputs=_gathered_basis(own.outputs), inputs=inputs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _gathered_basis(rows: Tensor) -> Tensor:
    """``[..., d, d]`` from each process's rows of it."""
    return gather(rows.movedim(-2, 0), rows.shape[-1]).movedim(0, -2)


def rows_of(rows: int, rank: int, world: int) -> slice:
    """The rows of a tensor of ``rows`` rows that a process holds; empty when there are more processes than rows."""
    each = -(-rows // world)
    return slice(min(rank * each, rows), min((rank + 1) * each, rows))


def shard_rows(model: Any, group: Group = None) -> dict[str, slice]:
    """The rows of each parameter that this process holds; what lies outside the layers is whole and left out."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    return {name: rows_of(p.shape[0], rank, world) for name, p in model.named_parameters() if _is_dtensor(p)}


def shard_direction(direction: Direction, model: Any, group: Group = None) -> Direction:
    """This process's rows of a direction, row for row as its weights lie; weights outside the layers stay whole."""
    rows = shard_rows(model, group)
    own = {name: t[rows[name]].clone() if name in rows else t for name, t in direction.tensors.items()}
    return Direction(own, direction.name)


def read_shards(saved: SavedDirections, model: Any) -> list[Direction]:
    """:func:`shard_direction` of directions on disk, of which nothing else is read."""
    return saved.loaded(shard_rows(model))


@contextmanager
def gathering(model: Any, group: Group = None) -> Iterator[None]:
    """In the block, layers gather their own weights by :func:`gather`, and parameters are plain local shards.

    ``functional_call`` with shards in place of weights, under ``jvp`` and ``vmap``, then works as on a whole model.
    """
    undo: list[Callable[[], None]] = []
    layers = layers_of(model)
    sizes: dict[nn.Module, dict[tuple[nn.Module, str], int]] = {layer: {} for layer in layers}
    try:
        for module in list(model.modules()):
            _set_hooks_aside(module, undo)
        for layer in layers:
            for module in layer.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None and _is_dtensor(parameter):
                        sizes[layer][module, name] = parameter.shape[0]
                        local = cast(Any, parameter).to_local()
                        module._parameters[name] = nn.Parameter(local, requires_grad=False)
                        undo.append(partial(module._parameters.__setitem__, name, parameter))
        with layers_run_by(layers, partial(_gathered_forward, sizes, group)):
            yield
    finally:
        for step in reversed(undo):
            step()


def _gathered_forward(
    sizes: Mapping[nn.Module, Mapping[tuple[nn.Module, str], int]],
    group: Group,
    layer: nn.Module,
    own: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """A layer's forward with its weights, of so many rows, gathered for just this call."""
    shards = {(module, name): module._parameters[name] for module, name in sizes[layer]}
    try:
        for (module, name), shard in shards.items():
            whole = gather(cast(torch.Tensor, shard), sizes[layer][module, name], group)
            module._parameters[name] = cast(nn.Parameter, whole)
        return own(*args, **kwargs)
    finally:
        for (module, name), shard in shards.items():
            module._parameters[name] = shard


def _set_hooks_aside(module: nn.Module, undo: list[Callable[[], None]]) -> None:
    """Take FSDP2's own forward hooks off a module; ``undo`` gets what puts them back."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        before = dict(hooks)
        kept = {key: h for key, h in before.items() if "FSDPState" not in type(getattr(h, "__self__", None)).__name__}
        if len(kept) < len(before):
            hooks.clear()
            hooks.update(kept)
            undo.append(partial(_put_back, hooks, before))


def _put_back(hooks: Any, before: dict[int, Any]) -> None:
    hooks.clear()
    hooks.update(before)


def token_scores(
    model: Any,
    examples: Sequence[TokenizedExample],
    directions: Sequence[Direction],
    max_tokens: int = DEFAULT_MAX_TOKENS,
    group: Group = None,
) -> list[TokenScores]:
    """``loss`` scores in forward mode of this process's ``examples`` (maybe none), on a sharded model.

    ``directions`` are this process's shards. A collective: every process calls it, with examples of its own.
    """
    tracked_names = list(directions[0].tensors)
    with gathering(model, group), engine_mode(model, forward_mode=True):
        backbone = Backbone(model)
        own = dict(model.named_parameters())
        dtype, device = next(model.parameters()).dtype, device_of(model)
        stacked = {name: torch.stack([d.tensors[name] for d in directions]).to(device, dtype) for name in tracked_names}
        _check_shapes(own, stacked)
        groups = [
            {name: t[first : first + TANGENTS_PER_PASS] for name, t in stacked.items()}
            for first in range(0, len(directions), TANGENTS_PER_PASS)
        ]
        carried = min(len(directions), TANGENTS_PER_PASS)
        planned = list(batches(examples, max(1, max_tokens // carried), device))
        filler = empty_batch(0, device)
        backbone.check((planned or [filler])[0])
        found = []
        for i in range(most(len(planned), group)):
            batch = planned[i] if i < len(planned) else filler
            values = torch.cat([forward_scores(backbone, batch, part) for part in groups])
            if i < len(planned):
                check_finite(values, batch, "its influence")
                found.append(split_scores(values, batch, "loss"))
    return found


def example_influence(
    model: Any,
    examples: Sequence[TokenizedExample],
    directions: Sequence[Direction],
    max_tokens: int = DEFAULT_MAX_TOKENS,
    group: Group = None,
) -> NDArray[Any]:
    """``[n, K]`` scores of this process's ``examples`` (maybe none) on a sharded model; ``directions`` are shards.

    A collective, as :func:`token_scores`. Each block's directions are gathered when its gradient is there.
    """
    tracked = tracked_by_names(model, directions[0].tensors)
    wide = accumulator(next(model.parameters()).dtype)
    device = device_of(model)
    # the last row is the empty batches'
    total = torch.zeros(len(examples) + 1, len(directions), dtype=wide, device=device)
    sharded = {name for name, p in model.named_parameters() if _is_dtensor(p)}

    def whole(name: str) -> Tensor:
        stacked = torch.stack([d.tensors[name] for d in directions], dim=1).to(device, wide)
        if name in sharded:
            stacked = gather(stacked, tracked.parameters[name].shape[0], group)
        return stacked.movedim(1, 0)

    def consume(batch: Batch, block: Block, uses: list[Use]) -> None:
        tensors = {name: whole(name) for name in (block.weight, block.bias) if name is not None}
        matrices = torch.stack([block.matrix({n: t[k] for n, t in tensors.items()}) for k in range(len(directions))])
        total[batch.indices] += example_scores(block, uses, matrices, batch).to(total.dtype)

    passes = partial(most, group=group)
    run_through(forward_backward(model, examples, tracked, consume, max_tokens=max_tokens, passes=passes))
    return total[:-1].cpu().numpy()


def most(count: int, group: Group = None) -> int:
    """The largest count of any process."""
    found = torch.tensor([count])
    dist.all_reduce(found, op=dist.ReduceOp.MAX, group=on_cpu() if group is None else group)
    return int(found)


def _check_shapes(own: dict[str, Tensor], stacked: dict[str, Tensor]) -> None:
    for name, tensor in stacked.items():
        if own[name].shape != tensor.shape[1:]:
            raise InputError(
                f"the direction of {name} has shape {tuple(tensor.shape[1:])} and this process's share of the weight "
                f"{tuple(own[name].shape)}; cut directions with shard_direction"
            )


def _is_dtensor(tensor: Any) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
