"""The plan's communication against the code's, counted: ``python -m bench.communication``; one JSON object last.

One process takes the part of rank 0 of many under a process group that only pretends (torch's "fake" backend): the
real FSDP2 hooks, the real gathers of forward mode and the real sums in rows run, every collective is counted by its
bytes, and nothing is sent. Numbers that a collective would bring are garbage; only sizes are looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from bench.exchanges import Communication
from bench.shapes import Shape as BenchShape
from bench.shapes import rows
from torch.testing._internal.distributed.fake_pg import FakeStore

from infra.influence import Direction, Engine, FitSettings, example_influence, recomputed_activations
from infra.influence.engine.batches import build_batch
from infra.influence.engine.covariances import covariances
from infra.influence.engine.derivative import forward_scores
from infra.influence.engine.eigenbases import corrected_eigenvalues, eigenbases
from infra.influence.engine.functional import Backbone, engine_mode
from infra.influence.engine.gradient import add_gradients
from infra.influence.engine.layer_inputs import Capture
from infra.influence.engine.rows import GatheredBases, RowTotals, shard_rows
from infra.influence.engine.totals import Totals
from infra.models import tracked_weights
from infra.models.shape import Shape
from infra.parallel.fsdp import gathering, own_rows, shard_model
from infra.pipeline.plan import Amounts, Costs
from infra.pipeline.recipe import parse_recipe

RECIPE = {"name": "x", "data": {"world": "default"}, "tasks": [{"name": "world-math", "target": "math"}]}


class Counter:
    """Bytes that this process receives in all-gathers and reduce-scatters on a ring."""

    def __init__(self, world: int) -> None:
        self.world, self.bytes, self.calls = world, 0.0, 0

    def exchanged(self, whole: torch.Tensor) -> None:
        self.bytes += whole.numel() * whole.element_size() * (self.world - 1) / self.world
        self.calls += 1


@contextmanager
def counting(world: int) -> Iterator[Counter]:
    """Count every all-gather and reduce-scatter in the block."""
    counter = Counter(world)
    places = {  # of the whole tensor among the arguments
        "all_gather_into_tensor": 0,
        "all_gather_single": 0,  # what newer torch calls it
        "reduce_scatter_tensor": 1,
        "reduce_scatter_single": 1,
    }
    real = {name: getattr(dist, name) for name in places if hasattr(dist, name)}

    def counted(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counter.exchanged(args[places[name]])
            return real[name](*args, **kwargs)

        return call

    for name in real:
        setattr(dist, name, counted(name))
    try:
        yield counter
    finally:
        for name, function in real.items():
            setattr(dist, name, function)


class InRows(Engine):
    """An engine whose sums lie in rows, though its model is whole."""

    totals = RowTotals


@contextmanager
def ending() -> Iterator[None]:
    """The process group ends with the block."""
    try:
        yield
    finally:
        dist.destroy_process_group()


def measure(bench: BenchShape, world: int, directions: int) -> dict[str, dict[str, float]]:
    """Planned and counted bytes of each kind of exchange, for rank 0 of ``world``."""
    shape = Shape("bench", bench.layers, bench.width, bench.mlp, bench.heads, bench.kv_heads, bench.vocabulary)
    recipe = parse_recipe(RECIPE, where="bench", folder=Path("."))
    planned = Communication(Costs(recipe, shape, Amounts(2, 0, 0, 16.0, 1.0, 1.0, 1.0, ())), world)
    examples = rows(2, 16, bench.vocabulary)
    dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    # without the exchange of numbers of batches and of positions, which are no tensors of note
    numbers = {"passes": staticmethod(Totals.passes), "counts": staticmethod(Totals.counts)}
    with patch.multiple(RowTotals, **numbers), ending():
        model = bench.model()
        tracked = tracked_weights(model, "mlp")
        found: dict[str, dict[str, float]] = {}
        fit = FitSettings(fisher="empirical")
        bases = eigenbases(covariances(Engine(model, tracked, 64), examples, fit), tracked)[0]
        mine = {id(t): t[own_rows(len(t))] for b in bases.values() for t in (b.outputs, b.inputs)}
        rows_of_bases = {
            k: replace(b, outputs=mine[id(b.outputs)], inputs=mine[id(b.inputs)]) for k, b in bases.items()
        }
        in_rows = InRows(model, tracked, 64)
        with counting(world) as counter:
            covariances(in_rows, examples, fit)
        found["covariances"] = {"planned": planned.covariances, "counted": counter.bytes}
        with counting(world) as counter:
            corrected_eigenvalues(in_rows, examples, GatheredBases(rows_of_bases), fit)
        found["eigenvalues"] = {"planned": planned.eigenvalues, "counted": counter.bytes}
        share = torch.ones(directions, len(examples), dtype=torch.float64)
        with counting(world) as counter:
            add_gradients(in_rows, examples, share, RowTotals())
        found["gradients"] = {"planned": planned.folds(directions), "counted": counter.bytes}
        whole = [Direction({n: torch.randn_like(p) for n, p in tracked.parameters.items()}) for _ in range(directions)]
        shard_model(model)
        own = shard_rows(model)
        held = [Direction({name: t[own[name]].clone() for name, t in d.tensors.items()}) for d in whole]
        size = sum(t.numel() * t.element_size() for d in held for t in d.tensors.values())
        found["direction shard"] = {"planned": planned.direction_shard(directions), "counted": float(size)}
        batch = build_batch(examples, [0, 1])
        for name, again in (("visit", False), ("visit, recomputed", True)):
            with engine_mode(model), recomputed_activations(again), counting(world) as counter:
                Capture(Backbone(model), tracked_weights(model, "mlp")).backward_pass(batch, lambda block, calls: None)
            found[name] = {"planned": planned.visit, "counted": counter.bytes}
        with patch.object(Backbone, "check"), counting(world) as counter:  # the check is two passes more, once
            example_influence(model, examples, held, 64)
        found["example scores"] = {"planned": planned.visit + planned.folds(directions), "counted": counter.bytes}
        stacked = {name: torch.stack([d.tensors[name] for d in held]) for name in held[0].tensors}
        with gathering(model), engine_mode(model, forward_mode=True), counting(world) as counter:
            forward_scores(Backbone(model), batch, stacked)
        found["forward mode"] = {"planned": planned.forward_mode(directions), "counted": counter.bytes}
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--directions", type=int, default=3)
    parser.add_argument("--width", type=int, default=256)
    options = parser.parse_args()
    bench = BenchShape(width=options.width, mlp=4 * options.width, layers=2, heads=4, kv_heads=2, vocabulary=512)
    result = {}
    for world in options.worlds:
        found = measure(bench, world, options.directions)
        for kind, both in found.items():
            error = both["counted"] / both["planned"] - 1
            print(
                f"{world:3d} processes, {kind}: planned {both['planned']:,.0f}, counted {both['counted']:,.0f} bytes "
                f"({error:+.2%})"
            )
            both["error"] = error
        result[str(world)] = found
    print(json.dumps({"directions": options.directions, "worlds": result}))


if __name__ == "__main__":
    main()
