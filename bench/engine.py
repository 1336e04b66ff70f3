"""How fast the engine is, every ratio measured side by side in one run.

    python -m bench.engine                     the shape of docs/performance.md, two threads, alone on the machine
    python -m bench.engine --smoke             a toy shape, to see that it runs
    python -m bench.engine --device cuda --width 3584 --mlp 18944 --layers 28 --heads 28 --kv-heads 4 \
        --vocabulary 152064 --dtype bfloat16 --lengths 1024,4096,16384          (a Qwen2.5-7B shape)

Opponents run in environments of their own, named by INFRA_KRONFLUENCE_PYTHON and INFRA_BERGSON_PYTHON; without one,
its keys are null and listed under ``lost``. The last line is one JSON object. Keys and limits:

    token_position_vs_step          1.00   position token scores, one dense target, over forward+backward, T=1k
    token_position_lowrank_vs_step  0.80   the same with a low-rank direction
    token_loss_vs_step              1.15   exact loss token scores, T=2k
    token_loss_flatness             1.20   the same at T=8k over T=1k, per token and operation
    difference_vs_step              0.70   central difference
    extra_target_position_vs_step   0.45   each further target, position
    extra_target_loss_vs_step       0.75   each further target, loss
    fit_vs_*, fit_fast_vs_*, token_scores_vs_*, queries100_vs_kronfluence       their time over ours
    peak_memory_vs_inference        2.30   forward mode over inference, weights and directions taken out
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from bench.opponents import WORKERS, Opponent
from bench.shapes import Shape, alternate, rows

from infra.influence import (
    Direction,
    LowRank,
    fit_ekfac,
    log_likelihoods,
    pairwise_tokens,
    query_directions,
    token_influence,
)
from infra.influence.functional import Backbone
from infra.models import TrackedWeights, tracked_weights


def main() -> None:
    """Parse, measure, print."""
    options = parse()
    torch.set_num_threads(options.threads)
    shape = Shape(options.width, options.mlp, options.layers, options.heads, options.kv_heads, options.vocabulary)
    if options.memory:
        print(json.dumps(memory(options.memory, shape, options)))
        return
    model = shape.model(getattr(torch, options.dtype), options.device)
    tracked = tracked_weights(model)
    result: dict[str, Any] = {"shape": asdict(shape), "threads": options.threads, "repeats": options.repeats}
    result |= against_a_step(model, tracked, shape, options)
    lost: list[str] = []
    if options.device == "cpu":
        result |= against_inference(options)
        result |= against_others(model, tracked, options, lost)
    print(json.dumps({**result, "lost": lost}))


def against_a_step(model: Any, tracked: TrackedWeights, shape: Shape, options: argparse.Namespace) -> dict[str, Any]:
    """Ratios to one training step of ours on the same tokens, at each length."""
    short, middle, long = (int(n) for n in options.lengths.split(","))
    found: dict[str, float] = {}
    two = [random_direction(tracked, k) for k in range(2)]
    low = random_low_rank(tracked, options.rank)
    data = {n: rows(max(1, options.tokens // n), n, shape.vocabulary) for n in (short, middle, long)}

    def scores(n: int, k: int, **how: Any) -> Any:
        return lambda: drain(token_influence(model, data[n], two[:k], max_tokens=options.tokens, **how))

    times = alternate(
        {
            "step": lambda: training_step(model, data[short], options.tokens),
            "position": scores(short, 1, decomposition="position"),
            "position2": scores(short, 2, decomposition="position"),
            "lowrank": lambda: drain(pairwise_tokens(model, data[short], low, tracked, options.tokens)),
            "difference": scores(short, 1, route="difference") if options.dtype == "float32" else lambda: 0.0,
            "loss_short": scores(short, 1),
        },
        options.repeats,
    )
    found["token_position_vs_step"] = times["position"] / times["step"]
    found["token_position_lowrank_vs_step"] = times["lowrank"] / times["step"]
    found["extra_target_position_vs_step"] = (times["position2"] - times["position"]) / times["step"]
    found["difference_vs_step"] = times["difference"] / times["step"]
    again = alternate(
        {
            "step": lambda: training_step(model, data[middle], options.tokens),
            "loss": scores(middle, 1),
            "loss2": scores(middle, 2),
        },
        options.repeats,
    )
    found["token_loss_vs_step"] = again["loss"] / again["step"]
    found["extra_target_loss_vs_step"] = (again["loss2"] - again["loss"]) / again["step"]
    last = alternate({"short": scores(short, 1), "long": scores(long, 1)}, options.repeats)
    cost = {name: last[name] / work(data[n], shape) for name, n in (("short", short), ("long", long))}
    found["token_loss_flatness"] = cost["long"] / cost["short"]
    found["tokens_per_second_loss"] = sum(map(len, data[middle])) / again["loss"]
    return found


def against_inference(options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of forward mode over inference, each measured in a process of its own."""
    peaks = {}
    for kind in ("inference", "forward"):
        command = [sys.executable, "-m", "bench.engine", "--memory", kind, *sys.argv[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[kind] = json.loads(done.stdout.splitlines()[-1])
    ratio = peaks["forward"]["above"] / max(1, peaks["inference"]["above"])
    return {"peak_memory_vs_inference": ratio, "peak_memory_bytes": peaks}


def memory(kind: str, shape: Shape, options: argparse.Namespace) -> dict[str, int]:
    """Peak resident bytes ``above`` weights and directions, and in ``total``, of one job in this process."""
    model = shape.model()
    tracked = tracked_weights(model)
    middle = int(options.lengths.split(",")[1])
    data = rows(max(1, options.tokens // middle), middle, shape.vocabulary)
    directions = [random_direction(tracked, 0)] if kind == "forward" else []
    weights = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the model
    if kind == "forward":
        drain(token_influence(model, data, directions, max_tokens=options.tokens))
    else:
        log_likelihoods(model, data, options.tokens)
    peak = resident("VmHWM")
    return {"above": peak - weights, "total": peak}


def resident(key: str) -> int:
    """Bytes of this process in memory now (VmRSS) or at most since the peak was cleared (VmHWM). Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def against_others(
    model: Any, tracked: TrackedWeights, options: argparse.Namespace, lost: list[str]
) -> dict[str, float | None]:
    """Fitting, token scores and a hundred queries beside each opponent, same data, dtype and threads."""
    short = int(options.lengths.split(",")[0])
    train = rows(options.examples, short, model.config.vocab_size, seed=1)
    queries = rows(options.queries, short // 4, model.config.vocab_size, seed=2)
    curvature = fit_ekfac(model, train, tracked, model_hash="")
    direction = [random_direction(tracked, 0)]
    result: dict[str, float | None] = {}

    def fit(form: Any) -> Any:
        return lambda: drain([fit_ekfac(model, train, tracked, eigenvalues=form, model_hash="")])

    def hundred() -> None:
        low = query_directions(model, queries, tracked, curvature, max_rank=options.rank)
        drain(pairwise_tokens(model, train, low, tracked, options.tokens))

    ours = {
        "fit": fit("per_sequence"),
        "fit_fast": fit("per_token"),
        "token_scores": lambda: drain(
            token_influence(model, train, direction, decomposition="position", max_tokens=options.tokens)
        ),
        "queries100": hundred,
    }
    for name in ("kronfluence", "bergson"):
        python = os.environ.get(f"INFRA_{name.upper()}_PYTHON")
        asked = ["fit", "token_scores", "queries100"] if name == "kronfluence" else ["fit", "token_scores"]
        if not python or name not in WORKERS:
            lost.append(f"{name}: " + ("no worker yet" if python else f"INFRA_{name.upper()}_PYTHON is not set"))
            result |= {f"{job}_vs_{name}": None for job in [*asked, "fit_fast"]}
            continue
        with Opponent(name, python, model, train, queries, options.threads) as other:
            pairs = {f"their {job}": (lambda job=job: other.run(job)) for job in asked}
            times = alternate({**ours, **pairs}, options.repeats)
            lost.extend(other.lost)
        for job in asked:
            result[f"{job}_vs_{name}"] = times[f"their {job}"] / times[job]
        result[f"fit_fast_vs_{name}"] = times["their fit"] / times["fit_fast"]
    return result


def training_step(model: Any, data: Any, max_tokens: int) -> None:
    """Forward and backward with gradients of all weights, the same loss positions and chunked head as ours."""
    from infra.influence.batches import batches
    from infra.influence.functional import head_pass, scatter

    backbone = Backbone(model)
    for batch in batches(data, max_tokens, next(model.parameters()).device):
        hidden = backbone.hidden(batch)
        head = head_pass(backbone, hidden, batch)
        assert head.gradient is not None
        back = scatter(head.gradient.T, head.where, batch.input_ids.shape).movedim(0, -1)
        torch.autograd.backward(hidden, back)
    model.zero_grad(set_to_none=True)


def random_direction(tracked: TrackedWeights, seed: int) -> Direction:
    """A random direction in the model's dtype and place."""
    generator = torch.Generator().manual_seed(seed)
    return Direction(
        {n: torch.randn(p.shape, generator=generator).to(p) * 1e-3 for n, p in tracked.parameters.items()}, f"r{seed}"
    )


def random_low_rank(tracked: TrackedWeights, rank: int) -> LowRank:
    """One random direction of the given rank over every block."""
    generator = torch.Generator().manual_seed(0)
    sample = next(iter(tracked.parameters.values()))
    sides = [
        {b.key: torch.randn(1, size(b), rank, generator=generator).to(sample) for b in tracked.blocks}
        for size in (lambda b: b.shape[0], lambda b: b.columns)
    ]
    return LowRank(sides[0], sides[1], torch.ones(1))


def work(data: Any, shape: Shape) -> float:
    """Operations of forward-mode scores of ``data``, attention included: dividing by it takes the attention out."""
    return sum(len(e) * shape.flops_per_token(len(e), 1) for e in data)


def drain(chunks: Any) -> None:
    """Run to the end."""
    for _ in chunks:
        pass


def parse() -> argparse.Namespace:
    """Arguments; ``--smoke`` sets a toy shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Shape()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--lengths", default="1024,2048,8192", help="short, middle and long T")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens in a batch")
    parser.add_argument("--examples", type=int, default=16, help="N against the opponents")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--memory", choices=("inference", "forward"), help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="a toy shape: says nothing about speed")
    options = parser.parse_args()
    if options.smoke:
        small = {"width": 32, "mlp": 48, "layers": 2, "heads": 4, "kv_heads": 2, "vocabulary": 64, "tokens": 128}
        vars(options).update(small, lengths="32,64,128", examples=4, queries=6, rank=2, threads=1, repeats=1)
    return options


if __name__ == "__main__":
    main()
