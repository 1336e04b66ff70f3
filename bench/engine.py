"""How fast the engine is. Every ratio is measured side by side in one run: jobs alternate, medians of repeats.

    python -m bench.engine                     every group, two threads; nothing else should run on the machine
    python -m bench.engine --only steps        one group: steps, difference, loss, flat, memory, kronfluence,
                                               kronfluence_queries, bergson
    python -m bench.engine --smoke             a toy shape, to see that it runs
    python -m bench.engine --only gpu --device cuda --width 3584 --mlp 18944 --layers 28 --heads 28 --kv-heads 4 \
        --vocabulary 152064 --dtype bfloat16 --lengths 1024,4096,16384          (a Qwen2.5-7B shape)

Opponents run in environments of their own, named by INFRA_KRONFLUENCE_PYTHON and INFRA_BERGSON_PYTHON; without one its
keys are null and listed under ``lost``. With ``--results FILE`` each group is merged into that file. The last line is
one JSON object. Keys and limits:

    token_position_vs_step          1.00   position token scores, one dense target, over forward+backward, T=1k
    token_position_lowrank_vs_step  0.80   the same with a low-rank direction
    difference_vs_step              0.70   central difference, T=1k
    extra_target_position_vs_step   0.45   each further target, position
    token_loss_vs_step              1.15   exact loss token scores, T=2k
    extra_target_loss_vs_step       0.75   each further target, loss
    token_loss_flatness             1.20   the same at T=8k over T=1k, per token and operation
    peak_memory_vs_inference        2.30   forward mode over inference, weights and directions taken out
    fit_vs_*, fit_fast_vs_*, token_scores_vs_*, queries100_vs_kronfluence       their time over ours

The step has gradients of all weights, embedding and head included, and the engine's own chunked output head. The groups
against other libraries run on ``--peer-layers`` layers of the same width: cost is linear in the layers, and one
decomposition of a 4,864-wide factor alone takes 20 seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from bench.opponents import Opponent
from bench.shapes import Shape, rows
from bench.timing import Times, alternate
from scipy.stats import spearmanr

from infra.influence import (
    Curvature,
    Direction,
    Engine,
    LowRank,
    LowRankSettings,
    MeanLogLikelihood,
    example_influence,
    fit_ekfac,
    gradient,
    log_likelihoods,
    pairwise_tokens,
    query_directions,
    token_influence,
)
from infra.influence.engine.batches import batches
from infra.influence.engine.functional import HEAD_ELEMENTS, Backbone, log_softmax_
from infra.models import TrackedWeights, tracked_weights

Options = argparse.Namespace
Found = dict[str, Any]


def main() -> None:
    """Parse, measure, merge, print."""
    options = parse()
    torch.set_num_threads(options.threads)
    shape = Shape(options.width, options.mlp, options.layers, options.heads, options.kv_heads, options.vocabulary)
    if options.memory:
        print(json.dumps(memory(options.memory, shape, options)))
        return
    merged: Found = {}
    for group in options.only.split(",") if options.only else list(GROUPS)[:-1]:
        found = GROUPS[group](shape, options)
        found["setting"] = {"shape": asdict(shape), **settings(options)}
        merged[group] = found
        print(json.dumps({group: found}), flush=True)
    if options.results:
        path = Path(options.results)
        known = json.loads(path.read_text()) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**known, **merged}, indent=1, sort_keys=True) + "\n")
        merged = {**known, **merged}
    keys = {key: value for found in merged.values() for key, value in found["keys"].items()}
    print(json.dumps({**keys, "lost": [word for found in merged.values() for word in found.get("lost", [])]}))


def steps(shape: Shape, options: Options) -> Found:
    """Position scores over a training step, at the short length."""
    model, tracked, data = setting_of(shape, options, lengths(options)[0])
    times = alternate(
        {
            "step": lambda: training_step(model, data, options.tokens),
            "position": scores(model, data, directions(tracked, 1), options, decomposition="position"),
            "two positions": scores(model, data, directions(tracked, 2), options, decomposition="position"),
            "low rank": lambda: drain(
                pairwise_tokens(Engine(model, tracked, options.tokens), data, low_rank(tracked, options.rank))
            ),
        },
        options.repeats,
    )
    keys = {
        "token_position_vs_step": times["position"] / times["step"],
        "token_position_lowrank_vs_step": times["low rank"] / times["step"],
        "extra_target_position_vs_step": (times["two positions"] - times["position"]) / times["step"],
    }
    return report(keys, times, tokens=sum(map(len, data)))


def difference(shape: Shape, options: Options) -> Found:
    """Central difference over a training step, at the short length."""
    model, tracked, data = setting_of(shape, options, lengths(options)[0])
    times = alternate(
        {
            "step": lambda: training_step(model, data, options.tokens),
            "difference": scores(model, data, directions(tracked, 1), options, route="difference"),
        },
        options.repeats,
    )
    return report({"difference_vs_step": times["difference"] / times["step"]}, times, tokens=sum(map(len, data)))


def loss(shape: Shape, options: Options) -> Found:
    """Exact loss scores over a training step, at the middle length."""
    model, tracked, data = setting_of(shape, options, lengths(options)[1])
    times = alternate(
        {
            "step": lambda: training_step(model, data, options.tokens),
            "loss": scores(model, data, directions(tracked, 1), options),
            "two losses": scores(model, data, directions(tracked, 2), options),
        },
        options.repeats,
    )
    keys = {
        "token_loss_vs_step": times["loss"] / times["step"],
        "extra_target_loss_vs_step": (times["two losses"] - times["loss"]) / times["step"],
    }
    return report(keys, times, tokens=sum(map(len, data)))


def flat(shape: Shape, options: Options) -> Found:
    """Exact loss scores of a long trace over short ones, per token and operation."""
    short, _, long = lengths(options)
    model, tracked, few = setting_of(shape, options, long)
    many = rows(max(1, long // short), short, shape.vocabulary)
    one = directions(tracked, 1)
    times = alternate(
        {"short": scores(model, many, one, options), "long": scores(model, few, one, options)}, options.repeats
    )
    cost = {name: times[name] / work(data, shape) for name, data in (("short", many), ("long", few))}
    return report({"token_loss_flatness": cost["long"] / cost["short"]}, times, tokens=sum(map(len, few)))


def peak(shape: Shape, options: Options) -> Found:
    """Peak memory of forward mode over inference, each in a process of its own; with a wide vocabulary as well."""
    found: Found = {}
    keys = {}
    for suffix, more in (("", []), ("_152k_vocabulary", ["--vocabulary", "152064"])):
        peaks = {}
        for kind in ("inference", "forward"):
            command = [sys.executable, "-m", "bench.engine", *sys.argv[1:], *more, "--memory", kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[kind] = json.loads(done.stdout.splitlines()[-1])
        keys[f"peak_memory{suffix}_vs_inference"] = peaks["forward"]["above"] / max(1, peaks["inference"]["above"])
        found[f"bytes{suffix}"] = peaks
    return {"keys": keys, **found}


def memory(kind: str, shape: Shape, options: Options) -> dict[str, int]:
    """Peak resident bytes ``above`` weights and directions, and in ``total``, of one job in this process."""
    model, tracked, data = setting_of(shape, options, lengths(options)[1])
    given = directions(tracked, 1) if kind == "forward" else []
    weights = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the model
    if kind == "forward":
        drain(token_influence(model, data, given, max_tokens=options.tokens))
    else:
        log_likelihoods(model, data, options.tokens)
    top = resident("VmHWM")
    return {"above": top - weights, "total": top}


def resident(key: str) -> int:
    """Bytes of this process in memory now (VmRSS) or at most since the peak was cleared (VmHWM). Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def kronfluence(shape: Shape, options: Options) -> Found:
    """Fitting and token scores beside kronfluence, which makes the query's direction within its scores: so do we."""
    return beside("kronfluence", shape, options, with_query=True)


def bergson(shape: Shape, options: Options) -> Found:
    """Fitting and token scores beside bergson, whose scorer is given a ready direction, as ours is."""
    return beside("bergson", shape, options, with_query=False)


def beside(name: str, shape: Shape, options: Options, with_query: bool) -> Found:
    """Fits once each (minutes), token scores in turns."""
    shape = replace(shape, layers=options.peer_layers)
    model, tracked, _ = setting_of(shape, options, 1)
    train, queries = peer_data(shape, options)
    python = os.environ.get(f"INFRA_{name.upper()}_PYTHON")
    names = [f"{job}_vs_{name}" for job in ("fit", "fit_fast", "fit_blocks", "token_scores")]
    if not python:
        return {"keys": dict.fromkeys(names), "lost": [f"{name}: INFRA_{name.upper()}_PYTHON is not set"]}
    fitted: dict[str, Curvature] = {}

    def fit(kind: str, **how: Any) -> Callable[[], None]:
        return lambda: fitted.update({kind: fit_ekfac(model, train, tracked, model_hash="", **how)})

    def token_scores() -> None:
        if with_query:
            grad = gradient(model, MeanLogLikelihood("q", queries[:1], "summed"), tracked)
            given = [fitted["fit"].inverse() @ grad]
        else:
            given = directions(tracked, 1)
        drain(token_influence(model, train, given, decomposition="position", max_tokens=options.tokens))

    with Opponent(name, python, model, train, queries, options.threads, options.rank) as other:
        fits = alternate(
            {
                "fit": fit("fit"),
                "fit fast": fit("fit fast", eigenvalues="per_token"),
                "fit blocks": fit("fit blocks", block_size=options.block_size),
                f"{name} fit": lambda: other.run("fit"),
            },
            1,
            warm_up=False,
        )
        scored = alternate(
            {"token scores": token_scores, f"{name} token scores": lambda: other.run("token_scores")},
            options.repeats,
            warm_up=False,
        )
        lost = list(dict.fromkeys(other.lost))
    theirs = fits[f"{name} fit"]
    ratios = [theirs / fits["fit"], theirs / fits["fit fast"], theirs / fits["fit blocks"]]
    keys = dict(zip(names, [*ratios, scored[f"{name} token scores"] / scored["token scores"]]))
    others = max(filter(None, (fits.others, scored.others)), default=None)
    seconds = Times({**fits.seconds, **scored.seconds}, {**fits.cpu, **scored.cpu}, others)
    agreement = {
        kind: agreement_of(model, train, queries[:2], tracked, fitted["fit"], fitted[kind])
        for kind in ("fit fast", "fit blocks")
    }
    return {**report(keys, seconds, tokens=sum(map(len, train))), "rank_agreement": agreement, "lost": lost}


def kronfluence_queries(shape: Shape, options: Options) -> Found:
    """Token scores for many separate queries, from query texts to scores, beside kronfluence at the same rank."""
    shape = replace(shape, layers=options.peer_layers)
    model, tracked, _ = setting_of(shape, options, 1)
    train, queries = peer_data(shape, options)
    python, key = os.environ.get("INFRA_KRONFLUENCE_PYTHON"), "queries100_vs_kronfluence"
    if not python:
        return {"keys": {key: None}, "lost": ["kronfluence: INFRA_KRONFLUENCE_PYTHON is not set"]}
    curvature = fit_ekfac(model, train, tracked, model_hash="")
    kept: list[float] = []

    def ours() -> None:
        low = query_directions(
            Engine(model, tracked), queries, curvature.inverse(), "summed", LowRankSettings(1.0, options.rank)
        )
        kept[:] = [float(low.kept.min()), float(low.kept.mean())]
        drain(pairwise_tokens(Engine(model, tracked, options.tokens), train, low))

    with Opponent("kronfluence", python, model, train, queries, options.threads, options.rank) as other:
        other.run("fit")  # its scores read factors from files
        times = alternate({"queries": ours, "kronfluence queries": lambda: other.run("queries")}, 1, warm_up=False)
        lost = list(dict.fromkeys(other.lost))
    found = report({key: times["kronfluence queries"] / times["queries"]}, times, tokens=sum(map(len, train)))
    return {**found, "kept_energy_min_mean": kept, "lost": lost}


def gpu(shape: Shape, options: Options) -> Found:
    """One long list of lengths on a device: tokens per second, fraction of a training step, peak memory."""
    keys: Found = {}
    for length in lengths(options):
        keys |= on_device(length, shape, options)
    return {"keys": keys}


def on_device(length: int, shape: Shape, options: Options) -> Found:
    """The keys of one length."""
    model, tracked, data = setting_of(shape, options, length)
    one = directions(tracked, 1)
    jobs = {
        "step": lambda: training_step(model, data, options.tokens),
        "loss": scores(model, data, one, options),
        "position": scores(model, data, one, options, decomposition="position"),
    }
    times = alternate({k: synchronised(job, options.device) for k, job in jobs.items()}, options.repeats)
    keys: Found = {}
    for name in ("loss", "position"):
        if options.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
            jobs[name]()
            keys[f"{name}_{length}_peak_bytes"] = torch.cuda.max_memory_allocated()
        keys[f"{name}_{length}_tokens_per_second"] = sum(map(len, data)) / times[name]
        keys[f"{name}_{length}_vs_step"] = times[name] / times["step"]
    return keys


GROUPS: dict[str, Callable[[Shape, Options], Found]] = {
    "steps": steps,
    "difference": difference,
    "loss": loss,
    "flat": flat,
    "memory": peak,
    "kronfluence": kronfluence,
    "kronfluence_queries": kronfluence_queries,
    "bergson": bergson,
    "gpu": gpu,
}
"""Groups of keys; ``gpu`` runs only when it is named."""


def training_step(model: Any, data: Any, max_tokens: int) -> None:
    """Forward and backward with gradients of all weights, same loss positions and same chunked output head as ours."""
    backbone = Backbone(model)
    for batch in batches(data, max_tokens, next(model.parameters()).device):
        hidden = backbone.hidden(batch)
        flat_hidden = hidden.detach().flatten(0, 1)
        where = batch.loss.flatten().nonzero()[:, 0]
        back = torch.zeros_like(flat_hidden)
        step = max(1, HEAD_ELEMENTS // model.config.vocab_size)
        for start in range(0, len(where), step):
            here = where[start : start + step]
            leaf = flat_hidden[here].requires_grad_(True)
            logits = backbone.logits(leaf)
            slope = logits.detach().float()
            log_softmax_(slope, batch.targets.flatten()[here], gradient=True)
            logits.backward(slope.to(logits.dtype))
            assert leaf.grad is not None
            back[here] = leaf.grad
        hidden.backward(back.reshape(hidden.shape))
    model.zero_grad(set_to_none=True)


def scores(model: Any, data: Any, given: list[Direction], options: Options, **how: Any) -> Callable[[], None]:
    """Token scores as a job."""
    return lambda: drain(token_influence(model, data, given, max_tokens=options.tokens, **how))


def agreement_of(
    model: Any, train: Any, queries: Any, tracked: TrackedWeights, one: Curvature, other: Curvature
) -> float:
    """Spearman correlation of example scores under two curvatures, the mean over queries."""
    grads = [gradient(model, MeanLogLikelihood(q.id, [q]), tracked) for q in queries]
    both = [example_influence(model, train, [c.inverse() @ g for g in grads]) for c in (one, other)]
    return float(sum(spearmanr(a, b).statistic for a, b in zip(both[0].T, both[1].T)) / len(grads))


def setting_of(shape: Shape, options: Options, length: int) -> tuple[Any, TrackedWeights, Any]:
    """The model, its tracked weights and one batch of rows of that length."""
    model = shape.model(getattr(torch, options.dtype), options.device)
    return model, tracked_weights(model), rows(max(1, options.tokens // length), length, shape.vocabulary)


def peer_data(shape: Shape, options: Options) -> tuple[Any, Any]:
    """Training rows and queries of the groups against other libraries."""
    short = lengths(options)[0]
    train = rows(options.examples, short, shape.vocabulary, seed=1)
    return train, rows(options.queries, short // 4, shape.vocabulary, seed=2)


def directions(tracked: TrackedWeights, n: int) -> list[Direction]:
    """Random directions in the model's dtype and place."""
    found = []
    for seed in range(n):
        draw = torch.Generator().manual_seed(seed)
        tensors = {k: torch.randn(p.shape, generator=draw).to(p) * 1e-3 for k, p in tracked.parameters.items()}
        found.append(Direction(tensors, f"r{seed}"))
    return found


def low_rank(tracked: TrackedWeights, rank: int) -> LowRank:
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


def report(keys: Found, times: Times, **more: Any) -> Found:
    """Keys, medians behind them, and how alone the run was."""
    seconds = {name: times[name] for name in times.seconds}
    cpu = {name: statistics.median(values) for name, values in times.cpu.items()}
    return {"keys": keys, "seconds": seconds, "cpu_seconds": cpu, "others_share": times.others, **more}


def settings(options: Options) -> Found:
    """What the numbers depend on."""
    processor = platform.processor() or platform.machine()
    kept = ("lengths", "tokens", "examples", "queries", "rank", "threads", "repeats", "dtype", "peer_layers")
    return {**{k: getattr(options, k) for k in kept}, "torch": torch.__version__, "processor": processor}


def synchronised(job: Callable[[], Any], device: str) -> Callable[[], None]:
    """A job that waits for the device."""

    def run() -> None:
        job()
        if device != "cpu":
            torch.cuda.synchronize()

    return run


def lengths(options: Options) -> list[int]:
    """Short, middle and long T."""
    return [int(n) for n in options.lengths.split(",")]


def drain(chunks: Any) -> None:
    """Run to the end."""
    for _ in chunks:
        pass


def parse() -> Options:
    """Arguments; ``--smoke`` sets a toy shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Shape()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--only", help="groups, comma-separated; default: all but gpu")
    parser.add_argument("--results", help="a JSON file that the groups are merged into")
    parser.add_argument("--lengths", default="1024,2048,8192", help="short, middle and long T")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens in a batch, and of data in own groups")
    parser.add_argument("--examples", type=int, default=6, help="N against the opponents, rows of the short length")
    parser.add_argument("--queries", type=int, default=100, help="of a quarter of the short length")
    parser.add_argument("--peer-layers", type=int, default=1, help="layers in the groups against opponents")
    parser.add_argument("--block-size", type=int, default=1216, help="of the block-diagonal fit")
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
        vars(options).update(small, lengths="32,64,128", examples=6, queries=6, rank=2, threads=1, repeats=1)
        options.block_size = 16
    return options


if __name__ == "__main__":
    main()
