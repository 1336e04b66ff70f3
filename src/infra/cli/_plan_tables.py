"""Plans and checks as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from infra.pipeline.plan import Checked, Device, Plan
from infra.pipeline.plan.expected import COUNTS_FROM_S, TOLERANCE, near


def planned(plan: Plan) -> None:
    """Every stage, the sums, and what to change."""
    console = Console(width=120)
    device, n, shape, amounts = plan.device, plan.devices, plan.costs.shape, plan.costs.amounts
    speed = ", calibrated now" if device.measured else f", {device.efficiency:.0%} of its stated rate assumed"
    console.print(
        f"{plan.recipe.name}: {shape.name}, {shape.parameters / 1e9:.3g}e9 parameters; {amounts.train:,} training and "
        f"{amounts.pool:,} pool examples of {amounts.length:.0f} tokens, {amounts.queries:,} queries; {n} x "
        f"{device.name}{speed}"
    )
    table = Table("stage", *("operations", "time", "memory a device", "disk"))
    for stage in plan.stages:
        table.add_row(stage.stage, f"{stage.flops:.2g}", span(stage.seconds), size(stage.memory), size(stage.disk))
    table.add_section()
    table.add_row(
        "all", f"{sum(s.flops for s in plan.stages):.2g}", span(plan.seconds), size(plan.memory), size(plan.disk)
    )
    console.print(table)
    for change in plan.changes:
        console.print(f"set  {change}", highlight=False)
    for stage in plan.too_large:
        console.print(f"{stage.stage} needs {size(stage.memory)} on each device, which has {size(plan.device.memory)}")
    if plan.devices > plan.recipe.curvature.sum_shards and not plan.recipe.scale.fsdp:
        console.print(
            f"A fit uses {plan.recipe.curvature.sum_shards} processes; curvature.sum_shards: {plan.devices} lets all "
            f"work, for {size(plan.scratch * plan.devices / plan.recipe.curvature.sum_shards)} of scratch on disk"
        )
    if plan.changes:
        console.print("The table is under these settings. The recipe without them does not fit what was asked for.")
    if plan.enough is not None:
        console.print(f"No setting makes it fit on --devices {n}; on --devices {plan.enough} it would.")
    elif not plan.fits:
        console.print("No setting known here makes it fit; shorter examples, fewer folds or a larger device would.")


def checked(device: Device, rows: Sequence[Checked]) -> None:
    """Each stage's planned and measured seconds and memory, beside what the run said beforehand, and how many of those
    that count are near."""
    console = Console(width=120)
    heads = ("stage", "told s", "planned s", "measured s", "error", "told memory", "planned memory", "measured memory")
    table = Table(*heads)
    for row in rows:
        told = ("" if row.expected is None else f"{row.expected:.2f}", f"{row.planned:.2f}", f"{row.measured:.2f}")
        memory = "" if row.expected_memory is None else size(row.expected_memory)
        sizes = (memory, size(row.planned_memory), size(row.measured_memory))
        table.add_row(row.stage, *told, f"{row.error:+.0%}", *sizes)
    console.print(table)
    counted = [r for r in rows if r.measured >= COUNTS_FROM_S]
    within = sum(near(r.planned, r.measured) for r in counted)
    fitting = sum(near(r.planned_memory, r.measured_memory) for r in counted)
    planned, measured = sum(r.planned for r in rows), sum(r.measured for r in rows)
    console.print(
        f"all stages: {planned:.1f} s planned, {measured:.1f} s measured ({planned / measured - 1:+.0%}); "
        f"of {len(counted)} stages of {COUNTS_FROM_S:.0f} s and more {within} within {TOLERANCE:.0%} in time, "
        f"{fitting} in memory"
    )
    console.print(
        f"this machine: {device.flops['float32'] / 1e9:.1f} GFLOP/s in products, {device.efficiency:.0%} of it in a "
        f"training step, {device.latency * 1e3:.1f} ms a decoding step, interpreted code {device.python:.2f} x as slow "
        "as the reference"
    )


def span(seconds: float) -> str:
    """A duration in the unit that suits it."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(amount: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= length:
            return f"{amount / length:.3g} {unit}"
    return f"{amount:.0f} B"
