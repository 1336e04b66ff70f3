"""The planner's figures against other counts: transformers' own parameters, torch's flop counter, fitted factors."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from infra.cli import app
from infra.errors import ArtifactError, InputError
from infra.models.shape import Shape
from infra.pipeline import graph
from infra.pipeline import plan as planning
from infra.pipeline.plan import Amounts, Costs, Device, Plan, amounts_of, check, device_of, shape_of, shape_of_recipe
from infra.pipeline.recipe import Recipe, parse_recipe
from infra.pipeline.score import score_recipe
from infra.train.estimate import training_flops
from infra.world import BASE_MODEL

ROOT = Path(__file__).parents[2]
SMALL = Shape("small", 2, 32, 96, 4, 2, 64, True)


def recipe(**changes: object) -> Recipe:
    data = {"world": "default", "max_length": 2048}
    raw = {"name": "x", "data": data, "tasks": [{"name": "world-math", "target": "math"}], **changes}
    return parse_recipe(raw, where="test", folder=Path("."))


def amounts(examples: int = 1000, length: float = 2000.0) -> Amounts:
    return Amounts(examples, examples, 0, length, 0.8, 200.0, 1500.0, (), given_queries=100, folds=2)


def plan(recipe: Recipe, shape: Shape, amounts: Amounts, device: Device, devices: int | None = None) -> Plan:
    return planning.plan(Costs(recipe, shape, amounts), device, devices)


def as_it_stands(recipe: Recipe, shape: Shape, amounts: Amounts, device: Device, devices: int = 1) -> Plan:
    return planning.as_it_stands(Costs(recipe, shape, amounts), device, devices)


@pytest.fixture(scope="module")
def model():  # type: ignore[no-untyped-def]
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    s = SMALL
    config = Qwen2Config(
        vocab_size=s.vocabulary,
        hidden_size=s.hidden,
        intermediate_size=s.intermediate,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
        tie_word_embeddings=s.tied,
        attn_implementation="eager",
    )
    return Qwen2ForCausalLM(config)


@pytest.mark.parametrize(
    ("name", "published"),
    [("Qwen2.5-0.5B", 0.49e9), ("Qwen/Qwen2.5-7B-Instruct", 7.61e9), ("meta-llama/Meta-Llama-3-70B", 70.6e9)],
)
def test_published_parameter_counts(name: str, published: float) -> None:
    assert shape_of(name).parameters == pytest.approx(published, rel=0.02)


def test_parameters_of_a_model_that_is_there(model, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model.config.save_pretrained(tmp_path)
    shape = shape_of(str(tmp_path))
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2)
    assert shape.parameters == matrices and shape == Shape(tmp_path.name, *_fields(SMALL))


def _fields(shape: Shape) -> tuple:
    return (
        shape.layers,
        shape.hidden,
        shape.intermediate,
        shape.heads,
        shape.kv_heads,
        shape.vocabulary,
        shape.tied,
    )


def test_operations_of_a_training_step_against_torch_s_counter(model) -> None:  # type: ignore[no-untyped-def]
    tokens = 8
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(3, tokens, dtype=torch.long)).logits.sum().backward()
    # torch counts the whole square of attention, the plan its causal half: 2 s for s
    expected = 3 * tokens * training_flops(SMALL, 2.0 * tokens)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_numbers_in_fitted_factors(model) -> None:  # type: ignore[no-untyped-def]
    import numpy as np

    from infra.data import TokenizedExample
    from infra.influence import fit_ekfac
    from infra.models import tracked_weights

    ids = np.arange(8)
    example = TokenizedExample("a", ids, ids > 2, np.zeros((8, 2), np.int32), "", 0)
    fitted = fit_ekfac(model, [example], tracked_weights(model, "mlp"), model_hash="x")
    bases = {id(t): t.numel() for f in fitted.factors.values() for t in (f.outputs, f.inputs) if t is not None}
    costs = Costs(recipe(), SMALL, amounts())
    assert sum(bases.values()) == costs.passes.factors
    assert sum(f.eigenvalues.numel() for f in fitted.factors.values()) == costs.passes.tracked


@pytest.mark.parametrize("pattern", ["mlp", "attention", "all"])
def test_a_loaded_model_and_its_configuration_cost_the_same(model, pattern: str) -> None:  # type: ignore[no-untyped-def]
    """What is announced before a stage and what is planned; biases and norms are what the plan leaves out."""
    import numpy as np

    from infra.data import TokenizedExample
    from infra.influence import estimate
    from infra.models import tracked_weights

    def example(n: int) -> TokenizedExample:
        return TokenizedExample(str(n), np.arange(n), np.arange(n) >= n // 5, np.zeros((n, 2), np.int32), "", 0)

    examples, tracked = [example(40)] * 6, tracked_weights(model, pattern)
    planned = replace(amounts(6, 40.0), pool=0)
    costs = Costs(recipe(curvature={"tracked": pattern, "fraction": 1.0}, scores={"max_tokens": 80}), SMALL, planned)
    fit, scores = costs.curvature(), costs.scores()
    announced = estimate("fit", model, examples, tracked, max_tokens=80)
    assert announced.flops == pytest.approx(fit.flops["visit"] + fit.flops["product"], rel=0.02)
    announced = estimate("examples", model, examples, tracked, 2, 80)
    assert announced.flops == pytest.approx(scores.flops["visit"] + scores.flops["product"], rel=0.02)
    announced = estimate("forward", model, examples, tracked, 1, 80)
    assert announced.flops == pytest.approx(scores.flops["forward"], rel=0.02)
    assert announced.model_bytes == pytest.approx(scores.memory["weights"], rel=0.05)


def test_operations_of_a_visit_against_torch_s_counter(model) -> None:  # type: ignore[no-untyped-def]
    """A backward pass to every layer's input and to no weight, counted on the real graph."""
    tokens, shape = 16, SMALL
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        hidden = torch.zeros(1, tokens, shape.hidden).requires_grad_()
        with FlopCounterMode(display=False) as counter:
            model.model(inputs_embeds=hidden).last_hidden_state.sum().backward()
    finally:
        model.requires_grad_(True)
    passes = Costs(recipe(), shape, amounts()).passes
    # torch counts the whole square of attention, the plan its causal half: 2 s for s
    assert counter.get_total_flops() == pytest.approx(tokens * passes.visit(2.0 * tokens, 0.0), rel=0.01)


def test_a_plan_that_fits_is_left_alone_and_one_that_does_not_is_changed_until_it_does() -> None:
    small = plan(recipe(), shape_of("Qwen2.5-0.5B"), amounts(), device_of("h100"))
    assert small.fits and small.changes == () and small.recipe == recipe()
    seven, h200 = shape_of("Qwen2.5-7B"), device_of("h200")
    assert not as_it_stands(recipe(), seven, amounts(), h200, 8).fits
    large = plan(recipe(), seven, amounts(), h200, 8)
    assert large.fits and "model.dtype: bfloat16" in large.changes and large.memory <= 0.9 * 141e9
    assert as_it_stands(large.recipe, seven, amounts(), h200, large.devices) == replace(large, changes=())


def test_devices_that_were_asked_for_are_kept_and_what_would_be_enough_is_said() -> None:
    seven, h100 = shape_of("Qwen2.5-7B"), device_of("h100")
    one = plan(recipe(), seven, amounts(), h100, 1)
    assert one.devices == 1 and not one.fits and one.changes
    free = plan(recipe(), seven, amounts(), h100)
    assert free.fits and one.enough is not None and free.devices == one.enough > 1
    enough = plan(recipe(), seven, amounts(), h100, one.enough)
    assert enough.fits and enough.devices == one.enough and enough.enough is None
    hopeless = plan(recipe(), seven, amounts(), device_of("memory=1e8"), 2)
    assert hopeless.devices == 2 and hopeless.enough is None


def test_a_length_that_was_asked_for_is_planned_whatever_the_recipe_would_cut() -> None:
    short = recipe(data={"world": "default", "max_length": 512})
    asked = amounts_of(short, length=5000.0)
    assert asked.length == 5000.0 and amounts_of(short).length < 512
    found = plan(short, shape_of("Qwen2.5-0.5B"), asked, device_of("h200"), 1)
    assert "data.max_length: 5000" in found.changes and found.recipe.data.max_length == 5000
    training = next(s.flops for s in found.stages if s.stage == "sft/original-s0")
    cut = as_it_stands(short, found.costs.shape, replace(asked, length=512.0), device_of("h200"))
    assert training / next(s.flops for s in cut.stages if s.stage == "sft/original-s0") > 9


@pytest.mark.parametrize("length", [200, 5000])
@pytest.mark.parametrize("devices", [1, 3, 64])
def test_the_command_obeys_length_and_devices_as_typed(length: int, devices: int) -> None:
    arguments = ["--model", "Qwen2.5-7B", "--device", "h100", "--examples", "1000"]
    done = CliRunner().invoke(app, ["plan", *arguments, "--length", str(length), "--devices", str(devices)])
    said = " ".join(done.stdout.split())
    assert done.exit_code == 0, done.output
    assert f"examples of {length} tokens" in said and f"{devices} x h100" in said
    assert ("set data.max_length: 5000" in said) == (length == 5000)


def test_a_score_is_planned_without_training() -> None:
    arguments = ["--model", "Qwen2.5-0.5B", "--device", "h100", "--examples", "1000", "--length", "400", "--score"]
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert done.exit_code == 0 and "curvature" in done.stdout and "sft/" not in done.stdout, done.output
    done = CliRunner().invoke(app, ["plan", "--score", "--model", "Qwen2.5-0.5B", "--device", "h100"])
    assert "give --examples and --length" in str(done.exception)


@pytest.mark.parametrize("trains", [True, False])
def test_every_stage_of_the_job_is_planned_under_its_own_name(trains: bool) -> None:
    settings = recipe(strategies={"names": ["select"]}) if trains else score_recipe("train.jsonl", None)
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"base": str(BASE_MODEL)})})
    job = graph.job_of_run(settings) if trains else graph.job_of_score(settings, None)
    planned = [c.stage for c in Costs(settings, SMALL, amounts(), trains).stages()]
    assert sorted(planned) == sorted(s.name for s in graph.stages_for(job))
    assert any(name.startswith("sft/") for name in planned) == trains


def memory_of(stage: str, settings: Recipe, devices: int) -> float:
    found = as_it_stands(settings, shape_of("Llama-3-70B"), amounts(), device_of("h100"), devices)
    return next(s.memory for s in found.stages if s.stage == stage)


@pytest.mark.parametrize("stage", ["curvature", "directions", "scores"])
def test_sums_bases_and_directions_are_shared_out_under_fsdp(stage: str) -> None:
    """From 64 to 128 devices half of what is shared out goes: what does not, is whole on each."""
    scale = {"fsdp": True, "recompute": True}
    settings = recipe(model={"dtype": "bfloat16"}, curvature={"block_size": 4096}, scale=scale)
    costs = Costs(settings, shape_of("Llama-3-70B"), amounts())
    work = next(w for w in costs.stages() if w.stage == stage)
    layers = work.memory["weights"] * costs.shape.body / costs.shape.parameters
    shared = layers + work.memory["rows"]
    fewer, more = memory_of(stage, settings, 64), memory_of(stage, settings, 128)
    assert fewer - more == pytest.approx(shared / 128) and fewer < 72e9 < work.memory["rows"]
    alone = recipe(model={"dtype": "bfloat16"}, curvature={"block_size": 4096}, scale={"recompute": True})
    assert memory_of(stage, alone, 64) == memory_of(stage, alone, 128) > shared


def test_recomputing_keeps_the_inputs_of_layers_for_half_as_many_operations_again() -> None:
    kept, made = (Costs(recipe(scale={"recompute": r}), shape_of("Qwen2.5-7B"), amounts()) for r in (False, True))
    few, many = (c.visit_memory()["activations"] for c in (made, kept))
    assert few < many / 10
    assert made.passes.visit(2000.0, 0.0) / kept.passes.visit(2000.0, 0.0) == pytest.approx(1.5, abs=0.03)
    found = plan(
        recipe(scale={"fsdp": True}, model={"dtype": "bfloat16"}, curvature={"block_size": 2048}),
        shape_of("Qwen2.5-7B"),
        replace(amounts(), length=8192.0),
        device_of("h100"),
        8,
    )
    assert found.fits and "scale.recompute: true" in found.changes and found.recipe.scale.recompute


def test_a_plan_that_cannot_fit_says_which_stages_are_too_large() -> None:
    found = plan(recipe(), shape_of("Llama-3-70B"), amounts(), device_of("h100"), 8)
    assert not found.fits and "curvature" in {s.stage for s in found.too_large} and found.excess > 0


def test_time_goes_with_the_data_and_with_devices() -> None:
    def hours(examples: int, devices: int) -> float:
        found = as_it_stands(
            recipe(model={"dtype": "bfloat16"}), shape_of("Qwen2.5-7B"), amounts(examples), device_of("h100"), devices
        )
        return next(s.seconds for s in found.stages if s.stage == "sft/original-s0")

    assert hours(100_000, 1) / hours(10_000, 1) == pytest.approx(10, rel=0.05)
    assert hours(100_000, 1) / hours(100_000, 8) > 6


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shape of model what/ever is not known"):
        shape_of("what/ever")
    assert shape_of("7.6e9").parameters == pytest.approx(7.6e9, rel=0.02)
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}))
    with pytest.raises(InputError, match="num_hidden_layers is None"):
        shape_of(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        shape_of(str(tmp_path))
    for text, words in (("h1000", "not known"), ("memory=big", "no number"), ("size=3", "not understood")):
        with pytest.raises(InputError, match=words):
            device_of(text)
    custom = device_of("memory=24e9,flops=1e14")
    assert custom.memory == 24e9 and set(custom.flops.values()) == {1e14}


def test_packed_rows_are_counted_and_only_their_conversation_has_a_length(tmp_path: Path) -> None:
    """Rows that differ, so that they pack as text does, with columns of tests and outputs beside the conversation."""
    rng = random.Random(0)
    words = [f"w{i:03d}" for i in range(1000)]
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt") as handle:
        for _ in range(6000):
            prompt, response = (" ".join(rng.choices(words, k=k)) for k in (20, 120))
            handle.write(json.dumps({"prompt": prompt, "response": response, "log": " ".join(words)}) + "\n")
    data = {"sources": [{"path": str(path), "schema": "prompt/response", "shares": {"train": 0.5}}], "max_length": 4096}
    found = amounts_of(recipe(data=data))
    assert found.train == pytest.approx(3000, rel=0.1)
    assert found.length == pytest.approx((20 * 5 - 1 + 120 * 5 - 1) / 3.5, rel=0.02)


def test_files_are_counted_without_reading_them(tmp_path: Path) -> None:
    text = json.dumps({"prompt": "p" * 100, "response": "r" * 600}) + "\n"
    (tmp_path / "a.jsonl").write_text(text * 5000)
    data = {
        "sources": [{"path": str(tmp_path / "a.jsonl"), "shares": {"train": 0.5, "pool": 0.25}}],
        "max_length": 4096,
    }
    found = amounts_of(recipe(data=data))
    assert found.train == pytest.approx(2500, rel=0.02) and found.pool == pytest.approx(1250, rel=0.02)
    assert found.length == pytest.approx(200, rel=0.02)
    missing = {"sources": [{"path": str(tmp_path / "none.jsonl")}]}
    with pytest.raises(InputError, match=r"none\.jsonl is not a file here"):
        amounts_of(recipe(data=missing))
    assert amounts_of(recipe(data=missing), examples=7, length=300.0).train == 7


def test_a_run_is_compared_stage_by_stage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"recipe\.json is missing"):
        check(tmp_path, device_of("h100"))
    settings = recipe(threads=1)
    (tmp_path / "recipe.json").write_text(json.dumps(settings.model_dump(mode="json", by_alias=True)))
    with pytest.raises(ArtifactError, match="holds no runtimes"):
        check(tmp_path, device_of("h100"))
    planned = as_it_stands(settings, shape_of_recipe(settings), amounts_of(settings), device_of("h100"))
    entries = [
        {"stage": s.stage, "seconds": 99.0, "cpu_seconds": 2 * s.seconds, "peak_memory_bytes": 1}
        for s in planned.stages
    ]
    (tmp_path / "runtime.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    rows = check(tmp_path, device_of("h100"))[1]
    assert [r.stage for r in rows] == [s.stage for s in planned.stages]
    assert all(r.error == pytest.approx(-0.5) for r in rows if r.measured > 1e-3)


@pytest.mark.slow
def test_the_communication_plan_is_what_the_code_exchanges() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.communication", "--worlds", "2", "8", "--width", "128"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])["worlds"]
    assert len(found) == 2
    for kinds in found.values():
        assert set(kinds) == {
            "covariances",
            "eigenvalues",
            "gradients",
            "direction shard",
            "visit",
            "visit, recomputed",
            "example scores",
            "forward mode",
        }
        assert all(abs(both["error"]) < 0.01 for both in kinds.values())


def test_the_plan_names_the_stages_that_a_run_has(tmp_path: Path) -> None:
    from infra.pipeline import stages_of
    from tests.pipeline.conftest import mini

    settings = mini()
    costs = Costs(settings, shape_of_recipe(settings), amounts_of(settings))
    assert {w.stage for w in costs.stages()} == {s.name for s in stages_of(settings, tmp_path)}
