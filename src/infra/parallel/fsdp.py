"""Models larger than one device: decoder layers sharded by FSDP2.

Every decoder layer is one FSDP2 unit; what lies outside the layers (embeddings, final norm, output head) stays whole
on every process.

Backward passes run under FSDP2's own hooks. Forward mode cannot: FSDP2 gathers a layer's weights by writing into
storage that it resizes, which has no forward derivative (torch 2.13 stops with "aten._has_same_storage_numel.default
does not have a sharding strategy registered"). :func:`gathering` therefore sets those hooks aside and gathers each
layer by :func:`gather`, a function with a derivative (the gather of the tangent) and a batching rule, so that
``vmap(jvp(...))`` carries the shards of many directions through the model layer by layer: at any time one layer's
weights and tangents are whole.

All processes of a group run the same number of passes, since every pass is a collective: a process that has fewer
batches runs empty ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from infra.errors import ModelError
from infra.models.layers import causal_model, layers_of, layers_run_by
from infra.parallel.process_group import cpu_group

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
        return None if tangent is None else all_gather_rows(tangent, ctx.rows, ctx.group)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, shard: Tensor, rows: int, group: Group) -> tuple[Tensor, int]:
        return all_gather_rows(shard.movedim(in_dims[0], 1), rows, group), 1


def all_gather_rows(shard: Tensor, rows: int, group: Group = None) -> Tensor:
    """The whole tensor ``[rows, ...]`` of which each process holds ``ceil(rows / world)`` rows, the last ones fewer.

    A collective of ``group``. Differentiable forward and under vmap.
    """
    return _Gather.apply(shard, rows, group)


def reduce_scatter(own: Tensor, group: Group = None) -> Tensor:
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


def rows_of(rows: int, rank: int, world: int) -> slice:
    """The rows of a tensor of ``rows`` rows that a process holds; empty when there are more processes than rows."""
    each = -(-rows // world)
    return slice(min(rank * each, rows), min((rank + 1) * each, rows))


def shard_rows(model: Any, group: Group = None) -> dict[str, slice]:
    """The rows of each parameter that this process holds; what lies outside the layers is whole and left out."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    return {name: rows_of(p.shape[0], rank, world) for name, p in model.named_parameters() if _is_dtensor(p)}


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
            whole = all_gather_rows(cast(torch.Tensor, shard), sizes[layer][module, name], group)
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


def all_reduce_max(count: int, group: Group = None) -> int:
    """The largest count of any process."""
    found = torch.tensor([count])
    dist.all_reduce(found, op=dist.ReduceOp.MAX, group=cpu_group() if group is None else group)
    return int(found)


def _is_dtensor(tensor: Any) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
