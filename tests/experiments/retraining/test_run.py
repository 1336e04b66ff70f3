"""`infra validate` on a run folder: a miniature run with the artifacts that a real one leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from infra.data import Message, Record, tokenize, write_records, write_tokenized
from infra.errors import ArtifactError, ModelError, ResourceError
from infra.experiments.retraining import (
    ValidationOptions,
    check_replay,
    read_run,
    read_validity,
    score_methods,
    validate_run,
)
from infra.experiments.retraining.run import gather_scores
from infra.influence import Damping, Engine, example_influence, fit_ekfac, gradients, save_directions
from infra.models import load_model, tracked_weights
from infra.models.small import small_model
from infra.train import SFTConfig, fine_tune

RECIPE = {
    "model": {"base": "base", "dtype": "float32", "device": "cpu", "pretrain": None},
    "data": {"max_length": 128, "on_error": "raise"},
    "targets": {"form": "per_token"},
    "curvature": {"method": "ekfac"},
    "eval": {"max_new_tokens": 4},
    "tasks": [{"name": "sums", "target": "math"}],
}


def sums(n: int, seed: int, prefix: str, split: str | None = None) -> list[Record]:
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        a, b = (int(x) for x in rng.integers(0, 10, 2))
        text = f"First I take {a}. Then I add {b}. The answer is \\boxed{{{a + b}}}."
        turns = (Message("user", f"What is {a} + {b}?"), Message("assistant", text))
        attributes = {"difficulty": 1, **({"split": split} if split else {})}
        out.append(Record(f"{prefix}{i}", turns, "math", "sums", answer=str(a + b), attributes=attributes))
    return out


def write(records: Sequence[Record], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(records, path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    train_records, query_records = sums(20, 0, "t"), sums(8, 1, "q")
    base = folder / "base"
    small_model(
        [m.content for r in train_records for m in r.messages],
        base,
        seed=0,
        vocab_size=300,
        hidden_size=16,
        intermediate_size=24,
        layers=1,
        heads=2,
        kv_heads=1,
        max_length=128,
    )
    recipe = {**RECIPE, "model": {**RECIPE["model"], "base": str(base)}}  # type: ignore[dict-item]
    (folder / "recipe.json").write_text(json.dumps(recipe))
    write(train_records, folder / "records/train.parquet")
    write(sums(6, 2, "p", "held-out"), folder / "records/problems/sums.parquet")
    write(query_records, folder / "targets/queries.parquet")
    fold = [i % 2 for i in range(8)]
    pd.DataFrame({"id": [q.id for q in query_records], "target": "math", "difficulty": 1, "fold": fold}).to_parquet(
        folder / "targets/folds.parquet"
    )
    _, tokenizer = load_model(base)
    examples = tokenize(train_records, tokenizer, max_length=128).examples
    queries = tokenize(query_records, tokenizer, max_length=128).examples
    (folder / "tokenized").mkdir()
    write_tokenized(examples, folder / "tokenized/train.parquet", 1000, 1000)
    write_tokenized(queries, folder / "targets/tokenized.parquet", 1000, 1000)
    config = SFTConfig(learning_rate=3e-3, epochs=1, batch_size=5, device="cpu")
    fine_tune(base, examples, folder / "sft/original-s0/model", config, seed=0)
    model, _ = load_model(folder / "sft/original-s0/model")
    tracked = tracked_weights(model, "mlp")
    curvature = fit_ekfac(model, examples, tracked)
    raw = gradients(Engine(model, tracked), queries, np.array(fold), ["a", "b"])
    directions = [curvature.inverse(Damping(10.0)) @ g for g in raw]  # not the default of the compared methods
    scores = example_influence(model, examples, directions)
    (folder / "scores").mkdir()
    save_directions(directions, folder / "directions")
    np.save(folder / "scores/folds.npy", scores)
    pd.DataFrame({"id": [e.id for e in examples], "set": "train"}).to_parquet(folder / "scores/examples.parquet")
    pd.DataFrame({"fold": ["math:1#0", "math:1#1"]}).to_parquet(folder / "directions/folds.parquet")
    (folder / "directions/targets.json").write_text(json.dumps({"math": [0.5, 0.5], "math:1": [0.5, 0.5]}))
    return folder


def test_a_run_is_replayed_from_its_records(run: Path) -> None:
    data = read_run(run)
    assert check_replay(data, run) < 1e-3
    assert data.method == "ekfac" and data.scores.examples.shape == (20, 2)
    assert list(data.targets.weights) == ["math"] and len(data.problem.units["step"]) >= 40


def test_tokens_of_the_runs_own_scores_follow_its_own_directions(run: Path) -> None:
    data = read_run(run)
    own = gather_scores(data, ["length"], {"token"})["ekfac"]
    sums = np.stack([t.sum(1) for t in own.of_tokens(data.problem.examples)])
    assert np.allclose(sums, data.scores.examples, rtol=1e-3, atol=1e-4 * np.abs(data.scores.examples).max())
    default = score_methods(data.problem, data.targets, ["ekfac"])["ekfac"].examples
    assert not np.allclose(default, data.scores.examples, rtol=0.1)
    (run / "directions/directions.json").rename(run / "directions/gone")
    with pytest.raises(ArtifactError, match="directions"):
        gather_scores(data, [], {"step_mask"})
    (run / "directions/gone").rename(run / "directions/directions.json")


def test_validation_writes_its_plan_its_runs_and_its_tables(run: Path) -> None:
    table = validate_run(run, 30.0, ValidationOptions(["half", "step_delete"], ["same_seed"], n_boot=50))
    out = run / "validation"
    assert {"plan.json", "runs.jsonl", "lds.parquet", "differences.parquet", "validation.json"} <= {
        p.name for p in out.iterdir()
    }
    wanted = {"target", "method", "protocol", "kind", "value", "low", "high", "ceiling", "n_subsets", "n_seeds"}
    assert wanted <= set(table.columns) and set(table.method) >= {"ekfac", "random", "length", "loss", "gradient"}
    assert (table.n_subsets == 100).all() and table.value.dropna().abs().max() <= 1
    assert read_validity(run)["example"]["math"].startswith("LDS ")
    curve = pd.read_parquet(out / "removal.parquet")
    assert set(zip(curve.unit, curve.side)) == {(u, s) for u in ("example", "step") for s in ("top", "bottom")}
    assert (curve.query_loss_change[curve.fraction == 0.4].abs() > 0).all()
    before = (out / "runs.jsonl").read_bytes()
    again = validate_run(run, 30.0, ValidationOptions(["half", "step_delete"], ["same_seed"], n_boot=50))
    assert (out / "runs.jsonl").read_bytes() == before and again.equals(table)


def test_a_run_that_was_not_validated_says_nothing(tmp_path: Path) -> None:
    assert read_validity(tmp_path) == {}


def test_a_budget_too_small_is_refused_with_its_estimate(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"would take about \d+\.\d minutes"):
        validate_run(run, 1e-6, out=tmp_path)
    assert not (tmp_path / "runs.jsonl").exists()


def test_below_protocol_nothing_is_called_validated(run: Path, tmp_path: Path) -> None:
    table = validate_run(
        run,
        30.0,
        ValidationOptions(
            kinds=["half"],
            methods=["random"],
            n_subsets=4,
            below_protocol=True,
            n_boot=20,
            removals=False,
            accuracy_problems=2,
        ),
        tmp_path,
    )
    assert set(table.protocol) == {"same_seed", "seed_mean"} and (table.n_subsets == 4).all()
    told = json.loads((tmp_path / "validation.json").read_text())
    assert told["validity"] == {} and (tmp_path / "tracking.parquet").exists()


@pytest.mark.slow
def test_compiled_retrains_measure_the_same(run: Path, tmp_path: Path) -> None:
    measured = []
    for name, compile in (("plain", False), ("fused", True)):
        validate_run(
            run,
            60.0,
            ValidationOptions(
                kinds=["half"],
                protocols=["same_seed"],
                methods=["random"],
                n_subsets=3,
                below_protocol=True,
                n_boot=20,
                removals=False,
                compile=compile,
            ),
            tmp_path / name,
        )
        lines = [json.loads(line) for line in (tmp_path / name / "runs.jsonl").read_text().splitlines()]
        measured.append({entry["run"]: entry["f"] for entry in lines if entry["event"] == "finished"})
    plain, fused = measured
    assert plain.keys() == fused.keys() and len(plain) == 4
    for name, f in plain.items():
        assert np.allclose(f, fused[name], rtol=1e-4), name


def test_missing_records_are_named(run: Path) -> None:
    order = run / "sft/original-s0/model/order.npy"
    kept = order.read_bytes()
    try:
        order.unlink()
        with pytest.raises(ArtifactError, match=r"order\.npy is missing.*unrolled"):
            read_run(run)
        np.save(order, np.arange(20)[None])
        with pytest.raises(ArtifactError, match="cannot be replayed"):
            read_run(run)
    finally:
        order.write_bytes(kept)


def test_another_base_model_is_noticed(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    small_model(
        [m.content for r in sums(20, 0, "t") for m in r.messages],
        other,
        seed=1,
        vocab_size=300,
        hidden_size=16,
        intermediate_size=24,
        layers=1,
        heads=2,
        kv_heads=1,
        max_length=128,
    )
    with pytest.raises(ModelError, match="away from the model saved there"):
        check_replay(read_run(run, base_model=str(other)), run)
