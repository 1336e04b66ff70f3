"""A small made-up run folder, in the files that `infra run` writes and the explorer reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from infra.report import ExampleView, ReportData, render_report
from infra.report.encode import displayable

from . import synthetic


def views(n: int, seed: int) -> list[ExampleView]:
    """``n`` examples, number 1 hostile; some with a word that no other has."""
    rng = np.random.default_rng(seed)
    made = [synthetic.example(i, rng) for i in range(n)]
    made[1] = synthetic.hostile_example(rng)
    return made


def write_run(
    root: Path, n: int = 120, seed: int = 0, recipe: dict | None = None, shift: float = 0.0
) -> list[ExampleView]:
    """Write the folder; ``shift`` moves the scores, for comparing runs. Returns the examples."""
    made = views(n, seed)
    (root / "scores" / "tokens").mkdir(parents=True)
    (root / "spans").mkdir()
    rows, steps = [], []
    rng = np.random.default_rng(seed + 1)
    for i, v in enumerate(made):
        totals = v.totals() + shift * rng.normal(size=len(v.targets)).astype(np.float32)
        rows.append(
            {
                "id": v.id,
                "set": "train" if i % 3 else "pool",
                "domain": ("math", "code")[i % 2],
                "difficulty": 1 + i % 5,
                "family": f"family-{i % 7}",
                "verified": bool(i % 2),
                "style": None if i % 4 == 0 else "symbolic",
                "n_tokens": len(v.token_offsets) * 7 + i,
                "n_response_tokens": int(v.loss_mask.sum()),
                "preview": displayable(v.text)[:160],
                **{f"score_{t}": totals[k] for k, t in enumerate(v.targets)},
            }
        )
        steps += [
            {"id": v.id, "set": "train", "step": j, "t0": a, "t1": b, "behaviours": list(labels)}
            for j, (a, b, labels) in enumerate(v.steps)
        ]
    pd.DataFrame(rows).to_parquet(root / "scores" / "examples.parquet", index=False)
    pd.DataFrame(steps).to_parquet(root / "spans" / "steps.parquet", index=False)
    half = n // 2
    for shard, part in enumerate((made[:half], made[half:])):
        columns: dict[str, object] = {
            "id": [v.id for v in part],
            "text": [displayable(v.text) for v in part],
            "starts": [v.token_offsets[:, 0].tolist() for v in part],
            "ends": [v.token_offsets[:, 1].tolist() for v in part],
            "mask": [v.loss_mask.tolist() for v in part],
        }
        for d in ("loss", "position"):
            for k, t in enumerate(synthetic.TARGETS):
                values = [v.scores.get(d, v.scores["loss"])[k] for v in part]
                columns[f"{d}_{t}"] = pa.array(values, type=pa.list_(pa.float32()))
        pq.write_table(pa.table(columns), root / "scores" / "tokens" / f"train-{shard:05d}.parquet", row_group_size=16)
    write_queries(root, made)
    write_links(root, made)
    write_records(root, made)
    (root / "recipe.json").write_text(
        json.dumps(recipe or {"name": root.name, "model": {"base": "world"}, "seed": seed})
    )
    (root / "results" / "tables").mkdir(parents=True)
    effects = synthetic.tables(np.random.default_rng(seed))["effects"]
    effects.assign(value=effects["value"].astype(str)).to_parquet(
        root / "results" / "tables" / "effects.parquet", index=False
    )
    render_report(ReportData("A run", examples=made[:2]), root / "report.html")
    return made


def write_queries(root: Path, made: list[ExampleView]) -> None:
    """Five queries of target math; example ``i`` scores ``(i - q)`` for query ``q``."""
    rows = []
    for q in range(5):
        order = sorted(range(len(made)), key=lambda i: -((i - q) % 11) - i / 1000)
        for side, chosen in (("top", order[:10]), ("bottom", order[::-1][:10])):
            rows += [
                {
                    "query": f"q{q}",
                    "target": "math",
                    "text": f"Query number {q}: how many marbles? </script>",
                    "side": side,
                    "rank": rank,
                    "id": made[i].id,
                    "influence": float((i - q) % 11 - 5),
                    "tokens": np.full(len(made[i].token_offsets), q + 1, np.float32),
                    "decomposition": "position",
                }
                for rank, i in enumerate(chosen, 1)
            ]
    (root / "queries").mkdir()
    pd.DataFrame(rows).to_parquet(root / "queries" / "queries.parquet", index=False)


def answer(q: int) -> ExampleView:
    """The answer of query ``q``, one character of which is beyond the basic plane."""
    view = synthetic.example(500 + q, np.random.default_rng(500 + q))
    at = int(view.token_offsets[0, 0]) + 1
    return replace(view, text=view.text[:at] + "👩" + view.text[at + 1 :])


def link_scores(q: int, view: ExampleView) -> np.ndarray:
    """``[steps of the example, tokens of the answer]``: seeded, zero in the answer's prompt."""
    given = answer(q)
    rng = np.random.default_rng([q, len(view.text), len(view.steps)])
    return (rng.normal(size=(len(view.steps), len(given.token_offsets))) * given.loss_mask).astype(np.float32)


def write_links(root: Path, made: list[ExampleView]) -> None:
    """Links of the five strongest examples of each side of each query."""
    by_id = {v.id: v for v in made}
    pairs = pd.read_parquet(root / "queries" / "queries.parquet", columns=["query", "side", "rank", "id", "influence"])
    pairs = pairs[pairs["rank"] <= 5].reset_index(drop=True)
    views = [by_id[i] for i in pairs["id"]]
    asked = [int(q[1:]) for q in pairs["query"]]
    links = pairs.assign(
        t0=[[a for a, _, _ in v.steps] for v in views],
        t1=[[b for _, b, _ in v.steps] for v in views],
        labels=[[list(names) for _, _, names in v.steps] for v in views],
        texts=[
            [displayable(v.text[v.token_offsets[a, 0] : v.token_offsets[b - 1, 1]])[:80] for a, b, _ in v.steps]
            for v in views
        ],
        scores=[link_scores(q, v).ravel() for q, v in zip(asked, views)],
    )
    (root / "links").mkdir()
    links.to_parquet(root / "links" / "links.parquet", index=False)
    answers = [answer(q) for q in range(5)]
    pd.DataFrame(
        {
            "query": [f"q{q}" for q in range(5)],
            "target": "math",
            "text": [v.text for v in answers],
            "starts": [v.token_offsets[:, 0] for v in answers],
            "ends": [v.token_offsets[:, 1] for v in answers],
            "mask": [v.loss_mask for v in answers],
            "t0": [[a for a, _, _ in v.steps] for v in answers],
            "t1": [[b for _, b, _ in v.steps] for v in answers],
            "labels": [[list(names) for _, _, names in v.steps] for v in answers],
        }
    ).to_parquet(root / "links" / "answers.parquet", index=False)


def write_records(root: Path, made: list[ExampleView]) -> None:
    """Records with the whole text, and one word of its own beyond the preview's reach in every tenth."""
    (root / "records").mkdir()
    rows = [
        {
            "id": v.id,
            "messages": [
                {"role": "user", "content": "A question."},
                {"role": "assistant", "content": displayable(v.text) + (f" zanzibar{i}" if i % 10 == 0 else "")},
            ],
        }
        for i, v in enumerate(made)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "records" / "train.parquet")
