"""A run folder with the user's own files and scores that a test chooses, without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from infra.data import Record, read_records, records_to_table
from infra.layout import Run
from infra.pipeline.origins import Origins, labels_of
from infra.pipeline.settings import SourceSettings
from infra.store import sha256_path, write_json


def scored_run(
    root: Path,
    sources: Sequence[dict],
    score: Callable[[Record], float],
    *,
    noise: float = 0.01,
    folds: int = 4,
    targets: Sequence[str] = ("math",),
) -> Run:
    """A run over files (a source may have ``use`` 'pool' and ``limit``). Its scores are ``score``, in folds that differ
    by ``noise``; a second target has them negated; tokens are the words of the response."""
    run, given = Run(root), [SourceSettings(path=str(s["path"]), limit=s.get("limit")) for s in sources]
    origins, skipped, rows = Origins(), [], []
    for number, (source, label) in enumerate(zip(given, labels_of(given))):
        use = sources[number].get("use", "train")
        result = read_records(source.path, on_error="skip", limit=source.limit, label=label)
        skipped += [{"file": b.file, "line": b.line, "reason": b.reason} for b in result.skipped]
        for record, place in zip(result.records, result.places):
            if origins.add(record, number, source, place, use):
                rows.append((use, record))
    rows.sort(key=lambda r: r[0] != "train")
    for use in {u for u, _ in rows}:
        run.records(use).parent.mkdir(parents=True, exist_ok=True)
        import pyarrow.parquet as pq

        pq.write_table(records_to_table([r for u, r in rows if u == use]), run.records(use))
    origins.table().to_parquet(run.origins, index=False)
    write_json(run.dropped, {"leaks": [], "skipped": skipped})
    config = {"data.world": None, "data.sources": [s.model_dump(by_alias=True) for s in given]}
    inputs = {s.path: found for s in given if (found := sha256_path(Path(s.path))) is not None}
    manifest = {"stage": "records", "key": "k", "config": config, "inputs": inputs, "outputs": {}}
    write_json(run.step("records") / "manifest.json", manifest)
    value = np.array([score(r) for _, r in rows])
    rng = np.random.default_rng(0)
    per_fold = np.concatenate(
        [sign * value[:, None] + noise * rng.standard_normal((len(rows), folds)) for sign in (1, -1)[: len(targets)]],
        axis=1,
    )
    table = pd.DataFrame(
        {
            "id": [r.id for _, r in rows],
            "set": [u for u, _ in rows],
            "domain": [r.domain for _, r in rows],
            "n_response_tokens": [len((r.response or "").split()) for _, r in rows],
        }
    )
    for k, name in enumerate(targets):
        table[f"score_{name}"] = per_fold[:, k * folds : (k + 1) * folds].mean(axis=1)
    run.example_scores.parent.mkdir(parents=True)
    table.to_parquet(run.example_scores, index=False)
    np.save(run.fold_scores, per_fold.astype(np.float32))
    run.folds.parent.mkdir(parents=True)
    names = [f"{t}/{i}" for t in targets for i in range(folds)]
    owner = [t for t in targets for _ in range(folds)]
    pd.DataFrame({"fold": names, "target": owner, "n_queries": 5}).to_parquet(run.folds, index=False)
    weights = {t: [1 / folds if o == t else 0.0 for o in owner] for t in targets}
    run.target_weights.write_text(json.dumps(weights))
    return run
