"""The precision of products: chosen by what it gains here and by whether scores keep their ranks, and kept by a run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from infra.influence import Damping, Direction, fit_ekfac
from infra.models import tracked_weights
from infra.models.precision import product_gain, products_in
from infra.pipeline import precision
from infra.store import read_json
from tests.influence import toys
from tests.pipeline.conftest import mini


def subject(tmp_path, parameters=precision.SMALL):
    skeleton = SimpleNamespace(num_parameters=lambda: parameters)
    records = [SimpleNamespace(question="x" * i, response="") for i in range(40)]
    return SimpleNamespace(
        folder=tmp_path,
        model=tmp_path,
        skeleton=skeleton,
        sets={"train": records},
        tokens=lambda _: iter(toys.examples(12)),
    )


@pytest.fixture
def loaded(monkeypatch):
    """A toy model stands for the one on disk, and a processor that gains from rounded products for this one."""
    import infra.models

    monkeypatch.setattr(infra.models, "load_model", lambda *_, **__: (toys.qwen2(), None))
    monkeypatch.setattr("infra.models.precision.product_gain", lambda _: 5.0)


def with_tracked(recipe):
    return recipe.model_copy(update={"curvature": recipe.curvature.model_copy(update={"tracked": "mlp"})})


def test_products_are_as_they_were_after_the_block():
    before = torch.get_float32_matmul_precision()
    with products_in("fast"):
        assert torch.get_float32_matmul_precision() == "medium"
        with products_in("float32"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before
    assert product_gain(size=64) > 0


def test_a_small_model_stays_in_float32_without_being_loaded(tmp_path):
    chosen = precision.choose(subject(tmp_path, precision.SMALL - 1), mini())
    assert chosen.precision == "float32" and chosen.gain is None


def test_a_processor_without_fast_products_keeps_float32_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("infra.models.precision.product_gain", lambda _: 1.0)
    settled = precision.settle(subject(tmp_path), mini())
    assert settled.model.precision == "float32"
    assert "1.00 times as fast" in capsys.readouterr().err
    assert read_json(tmp_path / "precision.json")["gain"] == 1.0


def test_fast_products_are_taken_where_scores_keep_their_ranks_and_a_run_goes_on_with_them(
    tmp_path, loaded, monkeypatch
):
    recipe = with_tracked(mini())
    settled = precision.settle(subject(tmp_path), recipe)
    kept = read_json(tmp_path / "precision.json")
    assert settled.model.precision == "fast" and kept["ranks"] >= 0.999 and kept["error"] < 1e-2
    monkeypatch.setattr("infra.models.precision.product_gain", lambda _: 1.0)  # another machine goes on with the run
    assert precision.settle(subject(tmp_path), recipe) == settled == precision.with_recorded(recipe, tmp_path)


def test_products_that_change_the_ranks_are_refused(tmp_path, loaded, monkeypatch):
    import infra.influence as influence

    real = influence.token_influence

    def noisy(*given, **options):
        for chunk in real(*given, **options):
            if torch.get_float32_matmul_precision() == "medium":
                chunk = SimpleNamespace(indices=chunk.indices, scores=[-s for s in chunk.scores])
            yield chunk

    monkeypatch.setattr(influence, "token_influence", noisy)
    assert precision.choose(subject(tmp_path), with_tracked(mini())).precision == "float32"


def test_what_the_recipe_says_is_not_looked_at(tmp_path):
    recipe = mini()
    fast = recipe.model_copy(update={"model": recipe.model.model_copy(update={"precision": "fast"})})
    assert precision.settle(subject(tmp_path), fast) is fast and not (tmp_path / "precision.json").exists()


def test_a_direction_is_solved_in_float32_products_whatever_the_run_takes(monkeypatch):
    model, train = toys.qwen2(), toys.examples(4)
    curvature = fit_ekfac(model, train, tracked_weights(model, "mlp"))
    seen = []
    real = type(next(iter(curvature.factors.values()))).rotate

    def watched(self, matrix):
        seen.append(torch.get_float32_matmul_precision())
        return real(self, matrix)

    monkeypatch.setattr("infra.influence.curvature.Factor.rotate", watched)
    rng = np.random.default_rng(0)
    tensors = {
        n: torch.from_numpy(rng.normal(size=tuple(p.shape))).float()
        for n, p in tracked_weights(model, "mlp").parameters.items()
    }
    with products_in("fast"):
        _ = curvature.inverse(Damping(0.1)) @ Direction(tensors)
    assert set(seen) == {"highest"}
