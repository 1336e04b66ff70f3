"""How fast the explorer answers over a large run: cold start, then warm percentiles of filter, sort, search and open.

    python bench/explorer.py --records 100000 --targets 12 --tokens 400 --folder /tmp/explorer-bench

The run is made up, with the shapes of real ones: log-normal lengths, a skewed vocabulary, texts, ragged token scores,
steps, row groups of 128. Making it takes minutes and about 5 bytes of disk per token and target; an existing folder
is used again. Requests go through the application as a browser's do, without the network.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 128
SHARD = 2000
DOMAINS = ("math", "code", "science", "puzzle")


def vocabulary(rng: np.random.Generator, n: int = 40_000) -> np.ndarray:
    """Made-up words of two to nine letters."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkq"))
    lengths = rng.integers(2, 10, n)
    return np.array([" " + "".join(rng.choice(letters, k)) for k in lengths], dtype=object)


def make_run(root: Path, records: int, targets: int, tokens: int) -> None:
    """Write scores/examples.parquet and scores/tokens/*.parquet."""
    rng = np.random.default_rng(0)
    words = vocabulary(rng)
    weights = 1 / np.arange(1, len(words) + 1)
    draw = np.cumsum(weights / weights.sum())
    names = [f"target-{k}" for k in range(targets)]
    lengths = np.clip(rng.lognormal(np.log(tokens), 0.6, records), 20, 20 * tokens).astype(int)
    (root / "scores" / "tokens").mkdir(parents=True)
    rows = []
    for start in range(0, records, SHARD):
        mine = lengths[start : start + SHARD]
        columns: dict[str, list[object]] = {c: [] for c in ("id", "text", "starts", "ends", "mask")}
        for i, n in enumerate(mine, start):
            picked = words[np.searchsorted(draw, rng.random(n))]
            ends = np.cumsum([len(w) for w in picked]).astype(np.int32)
            text = "".join(picked)
            values = (
                f"r{i:08d}",
                text,
                np.concatenate([[0], ends[:-1]]).astype(np.int32),
                ends,
                np.arange(n) >= n // 8,
            )
            for column, value in zip(columns, values):
                columns[column].append(value)
            rows.append(
                {
                    "id": f"r{i:08d}",
                    "set": "train" if i % 4 else "pool",
                    "domain": DOMAINS[i % 4],
                    "difficulty": 1 + i % 10,
                    "source": f"source-{i % 17}",
                    "n_tokens": int(n),
                    "preview": text[:160],
                    **dict(zip((f"score_{t}" for t in names), rng.standard_t(3, targets).astype(np.float32))),
                }
            )
        offsets = pa.array(np.concatenate([[0], np.cumsum(mine)]).astype(np.int32))
        scores = {
            f"loss_{t}": pa.ListArray.from_arrays(
                offsets, pa.array(rng.normal(size=int(mine.sum())).astype(np.float32))
            )
            for t in names
        }
        pq.write_table(
            pa.table({**columns, **scores}),
            root / "scores" / "tokens" / f"train-{start // SHARD:05d}.parquet",
            row_group_size=ROW_GROUP,
            use_dictionary=False,
            compression="lz4",
        )
        print(f"\rmade {min(start + SHARD, records):,} of {records:,}", end="", flush=True)
    print()
    pd.DataFrame(rows).to_parquet(root / "scores" / "examples.parquet", index=False)


def make_steps(root: Path) -> None:
    """Steps of about 40 tokens with a behaviour each, for every record."""
    rng = np.random.default_rng(2)
    labels = np.array(["plan", "subgoal", "computation", "fact", "verification", "final_answer"])
    table = pd.read_parquet(root / "scores" / "examples.parquet", columns=["id", "n_tokens"])
    first = (table["n_tokens"] // 8).to_numpy()
    counts = np.maximum(1, (table["n_tokens"].to_numpy() - first) // 40)
    owner = np.repeat(np.arange(len(table)), counts)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = first[owner] + 40 * step
    end = np.where(step == counts[owner] - 1, table["n_tokens"].to_numpy()[owner], start + 40)
    behaviours = pa.ListArray.from_arrays(
        pa.array(np.arange(len(owner) + 1, dtype=np.int32)), pa.array(rng.choice(labels, len(owner)))
    )
    (root / "spans").mkdir()
    pq.write_table(
        pa.table({"id": table["id"].to_numpy()[owner], "step": step, "t0": start, "t1": end, "behaviours": behaviours}),
        root / "spans" / "steps.parquet",
    )


def make_records(root: Path) -> None:
    """The texts as records, so that search covers all of them and not previews."""
    (root / "records").mkdir()
    schema = pa.schema(
        [("id", pa.string()), ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))]
    )
    with pq.ParquetWriter(root / "records" / "train.parquet", schema, compression="zstd") as writer:
        for file in sorted((root / "scores" / "tokens").glob("*.parquet")):
            table = pq.read_table(file, columns=["id", "text"])
            rows = [
                {"id": i, "messages": [{"role": "assistant", "content": t}]}
                for i, t in zip(table["id"].to_pylist(), table["text"].to_pylist())
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=ROW_GROUP)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of one call, and of the processors in it, which other work on the machine does not lengthen."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - used)


def main() -> None:
    """Make the run where it is missing, then print one JSON object of timings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--targets", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=400, help="median tokens per record")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--folder", type=Path, required=True)
    a = parser.parse_args()
    if not (a.folder / "scores" / "examples.parquet").exists():
        make_run(a.folder, a.records, a.targets, a.tokens)
        make_records(a.folder)
    if not (a.folder / "spans" / "steps.parquet").exists():
        make_steps(a.folder)
    from starlette.testclient import TestClient

    from infra.models.cache import cache_folder
    from infra.report.explorer import open_run
    from infra.report.explorer.app import build_app

    cached = any((cache_folder().parent / "explorer").glob("*.duckdb"))
    start = time.perf_counter()
    run = open_run(a.folder)
    ready = time.perf_counter() - start
    run.searchable.wait()
    indexed = time.perf_counter() - start
    client = TestClient(build_app(run, hosts=["testserver"]))
    rng = np.random.default_rng(1)
    names = [f"target-{k}" for k in range(len(run.targets))]
    words = [w.strip() for w in vocabulary(np.random.default_rng(0))]

    def get(path: str, **parameters: object) -> None:
        answer = client.get(f"/api/{path}", params={k: str(v) for k, v in parameters.items()})
        assert answer.status_code == 200, answer.text

    def pick_id() -> str:
        return f"r{rng.integers(run.n):08d}"

    cases: dict[str, Callable[[], None]] = {
        "filter": lambda: get(
            "rows",
            sort=rng.choice(names),
            equals=json.dumps({"domain": [str(rng.choice(DOMAINS))], "difficulty": [str(rng.integers(1, 11))]}),
            ranges=json.dumps({"n_tokens": [int(rng.integers(100, 500)), None]}),
        ),
        "sort": lambda: get(
            "rows", sort=rng.choice(names), way=rng.choice(["asc", "desc"]), offset=int(rng.integers(20)) * 50
        ),
        "search": lambda: get(
            "rows", sort=rng.choice(names), search=f"{rng.choice(words[:300])} {rng.choice(words[:3000])}"
        ),
        "search as typed": lambda: get("rows", sort=rng.choice(names), search=str(rng.choice(words[:3000]))[:3]),
        "phrase": lambda: get(
            "rows", sort=rng.choice(names), search=f'"{rng.choice(words[:300])} {rng.choice(words[:300])}"'
        ),
        "counts": lambda: get(
            "facets", equals=json.dumps({"domain": [str(rng.choice(DOMAINS))], "set": ["train"]}), search=words[9]
        ),
        "histogram": lambda: get(
            "histogram", of=f"score_{rng.choice(names)}", equals=json.dumps({"domain": [str(rng.choice(DOMAINS))]})
        ),
        "open": lambda: get("example", id=pick_id(), target=rng.choice(names)),
    }
    result: dict[str, object] = {
        "records": run.n,
        "targets": len(names),
        "index_was_cached": cached,
        "cold_ready_s": round(ready, 2),
        "cold_searchable_s": round(indexed, 2),
    }
    for name, work in cases.items():
        cold = timed(work)[0]
        times, processor = zip(*(timed(work) for _ in range(a.repeats)))
        result[name] = {
            "cold_ms": round(cold, 1),
            "p50_ms": round(float(np.quantile(times, 0.5)), 1),
            "p95_ms": round(float(np.quantile(times, 0.95)), 1),
            "max_ms": round(max(times), 1),
            "processor_p95_ms": round(float(np.quantile(processor, 0.95)), 1),
        }
    client.close()
    run.database.close()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
