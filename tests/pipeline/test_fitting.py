"""How much data the curvature sees, decided before the fit: one answer always, everything where there is little."""

from pathlib import Path

import pytest

from infra.influence import Agreement, Engine, FitSettings, agreeing_sample
from infra.influence.fit import by_hash
from infra.influence.steps.settings import ModelSettings
from infra.models import tracked_weights
from infra.parallel.launch import Runtime
from infra.pipeline import attribute, fitting
from tests.influence import toys
from tests.pipeline.conftest import mini

ITEMS = toys.examples(60)
SETTINGS = ModelSettings("toy", "hash", "layers.1.mlp")


@pytest.fixture
def model(monkeypatch):
    found = toys.qwen2()
    monkeypatch.setattr(fitting, "engine_of", lambda *_: Engine(found, tracked_weights(found, SETTINGS.tracked)))
    monkeypatch.setattr(fitting, "AUTO_FROM", 32)
    return found


def decide(**curvature):
    runtime = Runtime(fsdp=curvature.pop("fsdp", False))
    method = curvature.pop("method", "ekfac")
    curvature = {"fraction": "auto", "eigenvalues": "auto", **curvature}
    return fitting.decide(mini(curvature=curvature, method=method), ITEMS, SETTINGS, Path("."), runtime)


def test_small_data_other_methods_and_sharded_models_use_everything(monkeypatch, model):
    assert decide(method="kfac") == fitting.Decision(1.0, "per_sequence")
    assert decide(fsdp=True) == fitting.Decision(1.0, "per_sequence")
    assert decide(fraction=0.25, eigenvalues="per_token") == fitting.Decision(0.25, "per_token")
    monkeypatch.setattr(fitting, "AUTO_FROM", 1000)
    assert decide() == fitting.Decision(1.0, "per_sequence")


def test_as_much_as_it_takes_is_what_the_stage_then_reads(monkeypatch, model):
    real = fitting.agreeing_sample
    monkeypatch.setattr(fitting, "agreeing_sample", lambda *a: real(*a[:-1], Agreement(-1.0, start=8)))
    found = decide(eigenvalues="per_sequence")
    assert [n for n, _ in found.agreement] == [8]
    used = {e.id for e in attribute.subsampled(ITEMS, found.below, seed=0)}
    assert {e.id for e in by_hash(ITEMS, 0)[:8]} <= used <= {e.id for e in by_hash(ITEMS, 0)[:8]} | {ITEMS[0].id}
    engine = Engine(model, tracked_weights(model, SETTINGS.tracked))
    again = agreeing_sample(engine, by_hash(ITEMS, 0)[:15], FitSettings(), agreement=Agreement(-1.0, start=8))
    assert again.rounds == found.agreement


def test_halves_that_never_agree_mean_all_of_the_data(model):
    found = decide(eigenvalues="auto")
    assert found.below == 1.0 and found.eigenvalues in ("per_sequence", "per_token")
    assert found.agreement[-1][0] == 15 and found.agreement[-1][1] < 0.999  # a quarter of 60 was tried
    assert found.per_token_check is not None


def test_the_estimate_and_the_coverage_are_said_before_work(monkeypatch, model, tmp_path, capsys):
    from infra.parallel.shards import write_shards

    data = write_shards(ITEMS, tmp_path / "train.parquet", shard_examples=16)
    fitting.announce("curvature", "fit", SETTINGS, data, tmp_path, Runtime())
    said = capsys.readouterr().err
    assert "3 weights (layers.1.mlp)" in said and "% of the model" in said
    assert f"fit: {sum(map(len, ITEMS)):,} tokens" in said and "GiB" in said and "min or more" in said
