"""The line that says whether influence is meaningful, on a real model in four made cases."""

from pathlib import Path

import pytest

from infra.data import tokenize
from infra.influence import Engine
from infra.influence.convergence import Convergence, convergence
from infra.models import load_model, load_tokenizer, model_place, tracked_weights
from infra.train import SFTConfig, fine_tune
from infra.world import build_world

MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def sets():
    world, tokenizer = build_world(), load_tokenizer(model_place(MODEL))
    records = {d: [r for r in world.train if r.domain == d][:24] for d in ("math", "code")}
    return {d: tokenize(r, tokenizer, max_length=512).examples for d, r in records.items()}


def looked_at(model: str | Path, examples) -> Convergence:
    loaded, _ = load_model(model, dtype="float32")
    return convergence(Engine(loaded, tracked_weights(loaded)), examples)


def tuned(examples, folder: Path, epochs: float) -> Path:
    config = SFTConfig(
        learning_rate=1e-4,
        epochs=epochs,
        batch_size=4,
        max_tokens_per_microbatch=2048,
        schedule="cosine" if epochs >= 1 else "constant",
        dtype="float32",
        device="cpu",
    )
    fine_tune(model_place(MODEL), examples, folder, config, seed=0)
    return folder


@pytest.mark.slow
def test_the_verdict_is_right_for_base_half_trained_fine_tuned_and_tuned_on_other_data(sets, tmp_path):
    math = sets["math"]
    found = {
        "base": looked_at(model_place(MODEL), math),
        "half trained": looked_at(tuned(math, tmp_path / "half", 0.5), math),
        "fine-tuned": looked_at(tuned(math, tmp_path / "tuned", 4), math),
        "fine-tuned on other data": looked_at(tuned(sets["code"], tmp_path / "other", 4), math),
    }
    assert {name: one.holds for name, one in found.items()} == {
        "base": False,
        "half trained": False,
        "fine-tuned": True,
        "fine-tuned on other data": False,
    }, found
