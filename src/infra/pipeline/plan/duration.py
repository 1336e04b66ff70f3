"""Seconds out of work: operations over rates, decoding over bandwidth and latency, interpreted code as measured."""

from __future__ import annotations

import math

from infra.parallel.shards import SHARD_EXAMPLES
from infra.pipeline.plan.costs import SUM_BYTES, Costs, StageCost
from infra.pipeline.plan.devices import BYTES, Device

SLOWER = {"train": 1.0, "visit": 1.0, "forward": 1.0}
"""Time per operation of the engine's passes over that of a training step."""
PRODUCTS = 0.75
"""Share of the stated rate that plain matrix products reach on a GPU; a calibrated device states what it reaches."""
EIGH_SHARE = 0.15
"""Share of the float64 rate that an eigendecomposition reaches."""

HOST = 0.45e9
"""Bytes of Python with torch, transformers and pandas imported, before any data."""


def seconds(work: StageCost, costs: Costs, device: Device, devices: int = 1) -> float:
    """Seconds of one stage on so many devices, if its work divides evenly among them."""
    dtype = costs.recipe.model.dtype
    spent = sum(work.flops.get(kind, 0.0) * slower for kind, slower in SLOWER.items()) / device.rate(dtype)
    plain = device.flops[dtype] * (1.0 if device.measured else PRODUCTS)
    spent += work.flops.get("product", 0.0) / plain
    spent += work.flops.get("eigh", 0.0) / (device.flops["float64"] * EIGH_SHARE)
    if work.steps:
        shape = costs.shape
        cache = 2.0 * shape.layers * shape.kv_width * BYTES[dtype] * work.step_rows * work.step_context / 2
        reading = (shape.parameters * BYTES[dtype] + cache) / device.bandwidth
        spent += work.steps * (device.latency + reading)
    spent += work.disk / device.disk
    return spent / min(devices, work.at_most) + work.python * device.python


def memory(work: StageCost, costs: Costs, device: Device, devices: int = 1) -> float:
    """Bytes on each device. Under FSDP, in the stages that know it, the layers' weights with their gradients and
    optimiser state and the rows of sums, bases and directions are shared out, one layer stands gathered, and embeddings
    are whole; one block, activations and cache are every process's own. A CPU's figure has the libraries in it."""
    libraries = HOST if device.name == "cpu" else 0.0
    if not (work.sharded and costs.recipe.scale.fsdp and devices > 1):
        return sum(work.memory.values()) + libraries
    shape, each = costs.shape, BYTES[costs.recipe.model.dtype]
    layers = shape.body / shape.parameters
    total = 0.0
    for name, size in work.memory.items():
        if name in ("weights", "gradients", "optimiser"):
            total += size * (layers / devices + 1.0 - layers)
        else:
            total += size / devices if name == "rows" else size
    return total + (2 * shape.body / shape.layers * each if work.memory else 0.0) + libraries


def sums_on_disk(costs: Costs) -> float:
    """Bytes of sums by shard, of the curvature or of the folds' gradients, which stand on disk until they are added."""
    a, most, each = costs.amounts, costs.recipe.curvature.sum_shards, costs.recipe.scores.shard_tokens
    of_data = min(most, max(1, math.ceil(a.train * a.length / each), math.ceil(a.train / SHARD_EXAMPLES)))
    of_queries = min(most, max(1, math.ceil(a.queries * (a.prompt + a.answer) / each)))
    gradients = of_queries * costs.folds() * costs.passes.tracked
    return max(of_data * (costs.passes.factors + costs.passes.tracked), gradients) * SUM_BYTES
