"""Every method through one harness: consistent sums, independent oracles for the cheap ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infra import plugins
from infra.data import TokenizedExample
from infra.errors import InputError
from infra.experiments.retraining import (
    MethodScores,
    Problem,
    ScoreSettings,
    deal_folds,
    example_units,
    flat_model,
    loss_weights,
    query_values,
    score_methods,
    token_units,
    train,
)
from infra.experiments.retraining.scores import read_scores, write_scores
from infra.influence import Damping
from infra.influence.methods import Method, get_method, method_names
from infra.influence.methods import unrolled as unrolled_module
from tests.experiments.retraining.tiny import tiny_examples, tiny_model, tiny_plan

WORDS = ("add", "take", "answer", "four", "five", "prime", "list", "sort", "even", "odd", "loop", "return", "sum")


def worded(examples: Sequence[TokenizedExample], seed: int) -> list[TokenizedExample]:
    rng = np.random.default_rng(seed)
    return [replace(e, text=" ".join(rng.choice(WORDS, 12))) for e in examples]


EXAMPLES = worded(tiny_examples(12, seed=1), 0)
QUERIES = worded(tiny_examples(6, seed=2, prefix="q"), 1)
TARGETS = deal_folds(["math"] * 4 + ["code"] * 2, folds=2)
OLD_NAMES = ("ekfac_cg_ensemble", "ekfac_cg_checkpoints", "unrolled_seeds", "unrolled_middle_seeds")
QUICK = {"ekfac_cg": {"steps": 3}, "trak": {"rank": 6}, "less": {"rank": 6}, "trackstar": {"rank": 3}}


def quick(name: str) -> Method:
    """A method at settings that take little time."""
    base = name.removesuffix("_ensemble").removesuffix("_checkpoints")
    return get_method(name, **QUICK.get(base, {}), **({"members": 2} if name in OLD_NAMES else {}))


ALL = {name: quick(name) for name in (*method_names(), *OLD_NAMES)}


@pytest.fixture(scope="module")
def problem() -> Problem:
    units = {"example": example_units(EXAMPLES), "token": token_units(EXAMPLES)}
    return Problem(flat_model(tiny_model()), tiny_plan(12, epochs=1), EXAMPLES, QUERIES, units)


@pytest.fixture(scope="module")
def scores(problem: Problem) -> dict[str, MethodScores]:
    return score_methods(problem, TARGETS, ALL)


def test_kept_scores_are_read_instead_of_made(problem: Problem, tmp_path: Path) -> None:
    names, made = ["length", "gradient", "bm25"], []
    first = score_methods(problem, TARGETS, names[:2], done=made.append, kept=tmp_path)
    second = score_methods(problem, TARGETS, names, done=made.append, kept=tmp_path)
    assert made == names and list(second) == names
    for name, scores in first.items():
        assert np.array_equal(scores.examples, second[name].examples)
        for one, other in zip(scores.of_tokens(EXAMPLES), second[name].of_tokens(EXAMPLES), strict=True):
            assert np.array_equal(one, other)
    heavier = replace(problem, training=replace(problem.training, weight_decay=0.5))
    for other, settings in ((problem, ScoreSettings(seed=1)), (heavier, None)):
        score_methods(other, TARGETS, names[:1], settings, done=made.append, kept=tmp_path)
    for damping in (0.1, 1.0):
        method = get_method("kfac", damping=Damping(damping))
        score_methods(problem, TARGETS, {"kfac": method}, done=made.append, kept=tmp_path)
    assert len(made) == 7, "scores under other settings or of another run were taken for these"


def test_scores_of_a_bfloat16_model_can_be_kept(problem: Problem, tmp_path: Path) -> None:
    half = replace(problem, flat=flat_model(tiny_model(torch.bfloat16)))
    score_methods(half, TARGETS, ["length"], kept=tmp_path)
    assert len(list(tmp_path.glob("length-*.safetensors"))) == 1


def test_cut_steps_survive_being_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = MethodScores(rng.normal(size=(2, 3)), [rng.normal(size=(3, n)) for n in (4, 6)], rng.normal(size=(5, 3)))
    write_scores(scores, tmp_path / "new" / "ekfac.safetensors")
    found = read_scores(tmp_path / "new" / "ekfac.safetensors")
    assert np.array_equal(found.examples, scores.examples) and np.array_equal(found.deletes, scores.deletes)
    assert [np.array_equal(a, b) for a, b in zip(found.tokens, scores.tokens, strict=True)] == [True, True]


def test_every_method_scores_every_example_and_fold(scores: dict[str, MethodScores]) -> None:
    assert set(scores) == set(ALL)
    for name, found in scores.items():
        assert found.examples.shape == (12, 4) and np.isfinite(found.examples).all(), name
        sums = np.stack([t.sum(1) for t in found.of_tokens(EXAMPLES)])
        assert np.allclose(sums, found.examples, rtol=1e-6, atol=1e-9), name
        assert all(not t[:, ~e.loss_mask].any() for t, e in zip(found.of_tokens(EXAMPLES), EXAMPLES)), name


def test_the_module_ends_where_it_began(problem: Problem, scores: dict[str, MethodScores]) -> None:
    assert torch.equal(flat_model(problem.flat.module).start, problem.flat.start)


def test_loss_and_cosine_against_plain_autograd(problem: Problem, scores: dict[str, MethodScores]) -> None:
    theta = train(problem.flat, problem.training, EXAMPLES, loss_weights(EXAMPLES))
    tracked = torch.cat([torch.full((s,), ".mlp." in n) for n, s in zip(problem.flat.names, problem.flat.sizes)])

    def gradient(example: TokenizedExample, scale: float) -> tuple[float, torch.Tensor]:
        leaf = theta.clone().requires_grad_()
        ids, mask = torch.from_numpy(example.input_ids)[None], torch.from_numpy(example.loss_mask)
        value = problem.flat.log_probs(leaf, ids)[0][mask].sum() * scale
        return float(value.detach()), torch.autograd.grad(value, leaf)[0][tracked]

    members = [q for q, f in zip(QUERIES, TARGETS.fold) if f == 2]
    wanted = torch.stack([gradient(q, 1 / q.n_response_tokens)[1] for q in members]).mean(0)
    for i, example in enumerate(EXAMPLES[:4]):
        value, own = gradient(example, 1.0)
        assert scores["loss"].examples[i, 2] == pytest.approx(-value, rel=1e-6)
        assert scores["gradient"].examples[i, 2] == pytest.approx(float(own @ wanted), rel=1e-5)
        expected = float(torch.nn.functional.cosine_similarity(own, wanted, dim=0))
        assert scores["cosine"].examples[i, 2] == pytest.approx(expected, rel=1e-5)


def test_bm25_prefers_shared_rare_words(problem: Problem) -> None:
    few = [replace(e, text=t) for e, t in zip(EXAMPLES, ["alpha beta", "beta gamma", "beta delta", "beta beta"])]
    asked = [replace(q, text="alpha") for q in QUERIES]
    units = {"example": example_units(few), "token": token_units(few)}
    small = replace(problem, examples=few, queries=asked, units=units, training=tiny_plan(4, epochs=1))
    found = score_methods(small, TARGETS, ["bm25"]).popitem()[1].examples
    idf = np.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    assert found[0] == pytest.approx(idf * 2.5 / (1 + 1.5)) and not found[1:].any()


def test_the_middle_is_the_derivative_at_half_of_every_weight(problem: Problem) -> None:
    exact = replace(problem, flat=flat_model(tiny_model(torch.float64)))
    found = score_methods(exact, TARGETS, ["unrolled_middle"])["unrolled_middle"].examples

    def f_of(weights: np.ndarray) -> np.ndarray:
        theta = train(exact.flat, exact.training, EXAMPLES, loss_weights(EXAMPLES, weights))
        return TARGETS.folded(query_values(exact.flat, theta, QUERIES, exact.form))

    for i in (0, 5, 11):
        h = 1e-5 * (np.arange(12) == i)
        measured = (f_of(0.5 + h) - f_of(0.5 - h)) / 2e-5
        assert np.allclose(found[i], measured, rtol=1e-4, atol=1e-6 * np.abs(found).max())


def test_fresh_seeds_are_averaged_and_kept_one_by_one(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "unrolled_middle_seeds"
    whole = score_methods(problem, TARGETS, {name: ALL[name]}, kept=tmp_path)
    plans = [problem.training.reordered(12, seed) for seed in (1001, 1002)]
    parts = [
        score_methods(replace(problem, training=plan), TARGETS, ["unrolled_middle"])["unrolled_middle"]
        for plan in plans
    ]
    mean = (parts[0].examples + parts[1].examples) / 2
    assert np.allclose(whole["unrolled_middle_seeds"].examples, mean, rtol=1e-6)
    assert not np.allclose(parts[0].examples, parts[1].examples, rtol=1e-2)

    # stopped between two members: only the second is made again
    next(iter(tmp_path.glob(f"{name}-*.safetensors"))).unlink()
    shutil.rmtree(next(iter(tmp_path.glob(f"{name}-*/seed-1002"))))
    made = []
    scored = unrolled_module.unrolled
    monkeypatch.setattr(
        unrolled_module,
        "unrolled",
        lambda run, *rest, **k: made.append(run.plan.batches) or scored(run, *rest, **k),
    )
    again = score_methods(problem, TARGETS, {name: ALL[name]}, kept=tmp_path)
    assert made == [plans[1].batches]
    assert np.array_equal(again["unrolled_middle_seeds"].examples, whole["unrolled_middle_seeds"].examples)


@pytest.mark.parametrize("name", ["ekfac_cg", "less", "trak", "bm25"])
def test_an_ensemble_over_seeds_is_the_mean_over_models_trained_with_them(problem: Problem, name: str) -> None:
    both = get_method(f"{name}+seeds", members=2, **QUICK.get(name, {}))
    whole = score_methods(problem, TARGETS, {name: both})[name]
    plans = [problem.training.reordered(12, seed) for seed in (1001, 1002)]
    parts = [score_methods(replace(problem, training=p), TARGETS, {name: ALL[name]})[name] for p in plans]
    assert np.allclose(whole.examples, (parts[0].examples + parts[1].examples) / 2, rtol=1e-6, atol=1e-12)
    for found, one, other in zip(*(s.of_tokens(EXAMPLES) for s in (whole, *parts)), strict=True):
        assert np.allclose(found, (np.asarray(one, float) + other) / 2, rtol=1e-6, atol=1e-12)


def test_checkpoints_of_one_are_the_last_model(problem: Problem, scores: dict[str, MethodScores]) -> None:
    one = score_methods(problem, TARGETS, {"one": get_method("ekfac_cg+checkpoints", members=1, steps=3)})
    assert np.allclose(one["one"].examples, scores["ekfac_cg"].examples, rtol=1e-6)
    assert not np.allclose(scores["ekfac_cg_checkpoints"].examples, scores["ekfac_cg"].examples, rtol=1e-3)


def test_a_method_in_the_users_own_file_is_validated_and_made_again_when_the_file_changes(
    problem: Problem, scores: dict[str, MethodScores], tmp_path: Path
) -> None:
    path, made = tmp_path / "own.py", []
    for factor in (2.0, 3.0):
        path.write_text(
            "from infra.influence.methods import DirectionMethod\n\n\nclass Own(DirectionMethod):\n"
            "    def __repr__(self):\n        return 'Own()'\n\n    def directions(self, context):\n"
            f"        return [g * {factor} for g in context.gradients()]\n"
        )
        plugins._imported.cache_clear()  # as in a new process
        for _ in range(2):
            name = f"{path}:Own"
            found = score_methods(problem, TARGETS, [name], done=made.append, kept=tmp_path / "kept")[name]
            assert np.allclose(found.examples, factor * scores["gradient"].examples, rtol=1e-9)
    assert len(made) == 2


def test_folds_add_up_to_the_target() -> None:
    per_query = np.random.default_rng(0).standard_normal((5, 6))
    folded = TARGETS.folded(per_query)
    assert np.allclose(folded @ TARGETS.weights["math"], per_query[:, :4].mean(1))
    assert np.allclose(folded @ TARGETS.weights["code"], per_query[:, 4:].mean(1))


def test_bad_requests_are_named(problem: Problem) -> None:
    with pytest.raises(InputError, match="unknown method 'magic'"):
        score_methods(problem, TARGETS, ["magic"])
    with pytest.raises(InputError, match="fewer than its 8 folds"):
        deal_folds(["math"] * 4, folds=8)
    with pytest.raises(InputError, match="records and a tokeniser"):
        cut = replace(problem, units={**problem.units, "step": problem.units["token"]})
        score_methods(cut, TARGETS, ["length"], ScoreSettings(deletes=True))
