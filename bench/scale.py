"""How attribution scales: processes, examples, memory, restarts, disk. ``python -m bench.scale [--only GROUP ...]``

Groups: ``speedup`` (two processes against one, one thread each, on the embedded model; beside it two runs that share
nothing, side by side, which is what the machine's two cores give anybody), ``growth`` (cost a token and
peak memory from 1,000 to 100,000 short examples, tiny model, one process), ``restart`` (killed half-way and started
again, against undisturbed). What is timed is cutting the examples into shards, EK-FAC, example scores and token scores;
neither starting Python nor loading the model. Every timed run is a fresh process, forked before the model is loaded.
Prints one JSON object last, with what each number must reach beside it; processor time stands beside wall-clock time
where a busy machine would blur the latter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil
import pyarrow.parquet as pq

from infra.data import TokenizedExample, tokenize
from infra.influence import Damping, FitSettings, fit_curvature, save_directions
from infra.influence.steps import ModelSettings, OnDisk
from infra.influence.steps.settings import engine_of
from infra.models import load_tokenizer, model_hash
from infra.models.small import small_model
from infra.parallel.launch import Launcher, Runtime
from infra.parallel.process_group import barrier, init_process_group, this_rank
from infra.parallel.shards import open_shards, write_shards
from infra.world import BASE_MODEL, build_world

MUST = {
    "speedup_2_processes": ">= 1.8",
    "cost_per_token_100k_over_1k": "0.9 .. 1.1",
    "peak_memory_100k_over_1k": "<= 1.05",
    "restart_overhead": "<= 0.02",
    "bytes_per_token_and_target": "<= 5",
}
TARGETS = {"first": [1.0, 0.0], "second": [0.0, 1.0]}
SHARD = 2048
"""Tokens of a shard in the speed-up: some two dozen shards, so that two processes end together."""
FORK = multiprocessing.get_context("fork")


def synthetic(n: int, vocabulary: int = 256) -> Iterator[TokenizedExample]:
    """``n`` random examples of 12 to 20 tokens, half of each under the loss, made one at a time."""
    for i in range(n):
        length = 12 + i % 9
        ids = np.random.default_rng(i).integers(0, vocabulary, length)
        offsets = np.stack([np.arange(length), np.arange(length) + 1], axis=1).astype(np.int32)
        yield TokenizedExample(f"example-{i:08d}", ids, np.arange(length) >= length // 2, offsets, "x" * length, 0)


def worldly(n: int) -> Iterator[TokenizedExample]:
    """The first ``n`` training examples of the embedded world."""
    records = build_world().train[:n]
    yield from tokenize(records, load_tokenizer(str(BASE_MODEL)), max_length=512).examples


def prepare(folder: Path, model: Path, examples: Callable[[], Iterator[TokenizedExample]]) -> ModelSettings:
    """Queries, and directions for two groups of them, outside what is timed."""
    settings = ModelSettings(str(model), model_hash(model), "mlp")
    queries = []
    for example in examples():
        queries.append(example)
        if len(queries) == 32:
            break

    def make() -> None:
        shards = write_shards(queries, folder / "queries.parquet")
        place = OnDisk(folder / "work", shards, settings)
        fit_curvature(place, FitSettings()).curvature(settings.model_hash).save(folder / "curvature")
        groups = np.arange(len(queries)) % 2
        v = place.directions(groups, ["a", "b"], folder / "curvature", Damping(0.1), "per_token")
        assert v is not None
        save_directions(v, folder / "directions", settings.model_hash)

    in_processes(1, make)
    return settings


def attribute(
    folder: Path, out: Path, settings: ModelSettings, examples: Callable[[], Iterator[TokenizedExample]], shard: int
) -> None:
    """What is timed. Each process writes its seconds, processor seconds and peak memory (bytes) to ``out``."""
    launcher = Launcher(runtime=Runtime(threads=1))
    with init_process_group() as here:
        engine_of(settings, out, launcher.runtime)
        warm_up(folder, out / "warm", settings, launcher)
        start, processor = time.perf_counter(), time.process_time()
        (out / f"began-{here.rank}.json").write_text(json.dumps({"time": time.time(), "cpu": processor}))
        if here.first and not (out / "train.parquet").exists():
            write_shards(examples(), out / "train.parquet", shard)
        barrier()
        data = open_shards(out / "train.parquet")
        steps(OnDisk(out / "steps", data, settings, launcher), folder)
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        told = {"seconds": seconds, "cpu": processor, "peak": peak, "tokens": sum(data.tokens), "shards": len(data)}
        (out / f"measured-{here.rank}.json").write_text(json.dumps(told))


def warm_up(folder: Path, out: Path, settings: ModelSettings, launcher: Launcher) -> None:
    """The same steps on a few examples, so that what a library does once is not timed."""
    if this_rank().first:
        shutil.rmtree(out, ignore_errors=True)
    barrier()
    data = open_shards(folder / "queries.parquet")
    steps(OnDisk(out / "steps", data, settings, launcher), folder)
    barrier()


def steps(place: OnDisk, folder: Path) -> None:
    """A fit, and the scores of every example and token along the directions that lie in ``folder``."""
    fit_curvature(place, FitSettings())
    place.example_scores(folder / "directions")
    place.token_scores(folder / "directions", TARGETS)


def in_processes(size: int, job: Callable[..., None], *arguments: Any) -> None:
    """``job`` in ``size`` processes as torchrun starts them."""
    joined(started(size, job, *arguments))


def joined(processes: list[Any]) -> None:
    """Wait for their end. Raises SystemExit when one failed."""
    for process in processes:
        process.join()
    if any(p.exitcode for p in processes):
        raise SystemExit("a process failed; see above")


def started(size: int, job: Callable[..., None], *arguments: Any) -> list[Any]:
    """The same, without waiting for their end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def child(rank: int) -> None:
        os.environ.update(
            RANK=str(rank),
            WORLD_SIZE=str(size),
            LOCAL_RANK=str(rank),
            LOCAL_WORLD_SIZE=str(size),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        job(*arguments)

    processes = [FORK.Process(target=child, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    return processes


def measured(out: Path, rank: int = 0) -> dict[str, float]:
    found: dict[str, float] = json.loads((out / f"measured-{rank}.json").read_text())
    return found


def bytes_per_token(out: Path, tokens: float) -> dict[str, float]:
    """Compressed bytes of the score columns a token and target, and of the whole files a token and target."""
    scores = total = 0
    for path in (out / "steps" / "tokens" / "results").glob("*/*.parquet"):
        total += path.stat().st_size
        with pq.ParquetFile(path) as file:
            for g in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(g)
                columns = [group.column(c) for c in range(group.num_columns)]
                scores += sum(c.total_compressed_size for c in columns if c.path_in_schema.startswith("loss_"))
    share = tokens * len(TARGETS)
    return {"bytes_per_token_and_target": scores / share, "bytes_per_token_and_target_with_texts": total / share}


def speedup(folder: Path, n: int, repeats: int) -> dict[str, float]:
    """Two processes against one, alternating, medians."""
    made = list(worldly(n))  # the world is drawn before any clock starts: nobody's data are made by this engine
    examples = lambda: iter(made)  # noqa: E731
    settings = prepare(folder, BASE_MODEL, examples)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    busiest: dict[int, list[float]] = {1: [], 2: []}
    beside: list[float] = []
    for repeat in range(repeats):
        for size in (1, 2):
            out = folder / f"{size}-{repeat}"
            in_processes(size, attribute, folder, out, settings, examples, SHARD)
            seconds[size].append(measured(out)["seconds"])
            busiest[size].append(max(measured(out, rank)["cpu"] for rank in range(size)))
        alone = [folder / f"alone-{side}-{repeat}" for side in "ab"]
        joined([p for out in alone for p in started(1, attribute, folder, out, settings, examples, SHARD)])
        beside.append(max(measured(out)["seconds"] for out in alone))
    one, two = median(seconds[1]), median(seconds[2])
    return {
        "speedup_2_processes": one / two,
        "speedup_of_2_runs_that_share_nothing": 2 * one / median(beside),
        # what two free cores could give at most: processor time of one process over that of the busier of two
        "processor_speedup_2_processes": median(busiest[1]) / median(busiest[2]),
        "seconds_1_process": one,
        "seconds_2_processes": two,
        "speedup_tokens": measured(folder / "1-0")["tokens"],
        **bytes_per_token(folder / "1-0", measured(folder / "1-0")["tokens"]),
    }


def tiny(folder: Path) -> Path:
    """A random model of one layer, width 16: its passes cost little, so what grows with N shows."""
    path = folder / "model"
    small_model(
        ["tiny"],
        path,
        seed=0,
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        layers=1,
        heads=2,
        kv_heads=1,
        max_length=64,
    )
    return path


def growth(folder: Path, small: int, large: int, repeats: int) -> dict[str, float]:
    """Cost a token and peak memory at both ends. The small end is repeated, since it takes a second."""
    settings = prepare(folder, tiny(folder), lambda: synthetic(64))
    found: dict[int, list[dict[str, float]]] = {small: [], large: []}
    for n, times in ((small, repeats), (large, 1)):
        for repeat in range(times):
            out = folder / f"{n}-{repeat}"
            in_processes(1, attribute, folder, out, settings, lambda n=n: synthetic(n), 16_384)
            found[n].append(measured(out))
    cost = {n: median(f["seconds"] / f["tokens"] for f in runs) for n, runs in found.items()}
    cpu = {n: median(f["cpu"] / f["tokens"] for f in runs) for n, runs in found.items()}
    peak = {n: median(f["peak"] for f in runs) for n, runs in found.items()}
    return {
        "cost_per_token_100k_over_1k": cost[large] / cost[small],
        "cpu_per_token_100k_over_1k": cpu[large] / cpu[small],
        "peak_memory_100k_over_1k": peak[large] / peak[small],
        "examples_small": small,
        "examples_large": large,
        "microseconds_per_token_small": 1e6 * cost[small],
        "microseconds_per_token_large": 1e6 * cost[large],
        "peak_mib_small": peak[small] / 2**20,
        "peak_mib_large": peak[large] / 2**20,
        "seconds_large": found[large][0]["seconds"],
        **bytes_per_token(folder / f"{large}-0", found[large][0]["tokens"]),
    }


def restart(folder: Path, n: int, repeats: int) -> dict[str, float]:
    """What a kill half-way costs: what was spent until the kill and in the second run, over the undisturbed run, less
    one; in wall-clock and in processor time. Clocks start where those of every run here do.
    """
    settings = prepare(folder, tiny(folder), lambda: synthetic(64))
    examples = lambda: synthetic(n)  # noqa: E731
    losses: dict[str, list[float]] = {"seconds": [], "cpu": []}
    for repeat in range(repeats):
        whole, out = folder / f"whole-{repeat}", folder / f"killed-{repeat}"
        in_processes(1, attribute, folder, whole, settings, examples, 16_384)
        [process] = started(1, attribute, folder, out, settings, examples, 16_384)
        note = out / "began-0.json"
        while not (note.exists() and note.read_text()):
            time.sleep(0.01)
        time.sleep(measured(whole)["seconds"] * (0.3 + 0.4 * (repeat + 0.5) / repeats))
        began, used = json.loads(note.read_text()), psutil.Process(process.pid).cpu_times()
        spent = {"seconds": time.time() - began["time"], "cpu": used.user + used.system - began["cpu"]}
        process.kill()
        process.join()
        in_processes(1, attribute, folder, out, settings, examples, 16_384)
        for unit, found in losses.items():
            once = measured(whole)[unit]
            found.append((spent[unit] + measured(out)[unit] - once) / once)
    return {
        "restart_overhead": median(losses["seconds"]),
        "restart_overhead_worst": max(losses["seconds"]),
        "restart_overhead_processor": median(losses["cpu"]),
        "restart_run_seconds": measured(folder / "whole-0")["seconds"],
        "restart_run_processor_seconds": measured(folder / "whole-0")["cpu"],
    }


def main() -> None:
    """Run the groups asked for and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=("speedup", "growth", "restart"))
    parser.add_argument("--examples", type=int, default=400, help="of the speed-up")
    parser.add_argument("--large", type=int, default=100_000, help="the large end of growth")
    parser.add_argument("--restarted", type=int, default=400_000, help="examples of the run that is killed: minutes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    chosen = parser.parse_args()
    root = chosen.keep or Path(tempfile.mkdtemp(prefix="scale-"))
    groups: dict[str, Callable[[Path], dict[str, float]]] = {
        "speedup": lambda f: speedup(f, chosen.examples, chosen.repeats),
        "growth": lambda f: growth(f, 1000, chosen.large, chosen.repeats),
        "restart": lambda f: restart(f, chosen.restarted, chosen.repeats),
    }
    assert this_rank().size == 1
    found: dict[str, Any] = {}
    try:
        for name in chosen.only or groups:
            (root / name).mkdir(parents=True, exist_ok=True)
            found |= groups[name](root / name)
            print(f"{name}: done", flush=True)
    finally:
        if chosen.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    cores = len(os.sched_getaffinity(0))
    must = {key: value for key, value in MUST.items() if key in found}
    print(json.dumps({**{k: round(float(v), 4) for k, v in found.items()}, "cores": cores, "must": must}))


if __name__ == "__main__":
    main()
