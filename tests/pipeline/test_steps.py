"""A step gets what it declares and nothing else, and its key changes with exactly that."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ArtifactError
from infra.layout import EXPLAINED, Run
from infra.pipeline import stages_of
from infra.pipeline.graph import STEPS, job_of_run, job_of_score, stages_for
from infra.pipeline.runner import run_stages
from infra.pipeline.score import score_recipe
from infra.pipeline.stage import Context, Stage, UndeclaredInputError
from infra.pipeline.step import Job, Step, Uses, in_order
from infra.store import RunFolder, sha256_json, stage_key, write_text
from infra.world import BASE_MODEL
from tests.pipeline.conftest import context_of, mini


def keys(recipe: Any, folder: Path) -> dict[str, str]:
    """Each stage's key, were the outputs of a stage a function of its key."""
    found: dict[str, str] = {}
    for stage in stages_of(recipe, folder):
        inputs = {**stage.inputs, **{n: sha256_json(found[n]) for n in stage.needs}}
        found[stage.name] = stage_key(stage.name, stage.config, inputs)
    return found


def step(run: Callable[[Context], None], **declared: Any) -> Context:
    [stage] = Step("own", run, **declared).stages(Job(mini(), {"base": "a-model"}))
    return Context(stage, Path("out"), Path("run"))


def test_a_context_gives_the_paths_of_declared_steps_and_refuses_others() -> None:
    context = step(print, reads=("scores",))
    assert context.example_scores == Path("run/scores/examples.parquet") == Run("run").example_scores
    assert context.step("own") == Path("out") and context.has("scores") and not context.has("spans")
    assert context.root_for("scores") == Path("run") and context.beside("judge.jsonl") == Path("run/judge.jsonl")
    for refused in (
        lambda: context.step_scores,
        lambda: context.token_files and context.records("train"),
        lambda: context.root,
        lambda: context.recipe_file,
        lambda: context.root_for("scores", "spans"),
        lambda: context.use("base"),
    ):
        with pytest.raises(UndeclaredInputError, match="step own"):
            refused()


def test_a_context_gives_the_models_that_are_declared_whether_given_or_made() -> None:
    uses = (Uses("base", ("tokenizer",)), Uses(EXPLAINED))
    [stage] = Step("own", print, uses=uses).stages(Job(mini(), {"base": str(BASE_MODEL)}))
    context = Context(stage, Path("out"), Path("run"))
    assert context.use("base") == str(BASE_MODEL) and context.use(EXPLAINED) == f"run/{EXPLAINED}/model"
    assert stage.needs == (EXPLAINED,) and list(stage.inputs) == ["base tokenizer"]


def test_a_context_gives_the_settings_that_are_declared_and_refuses_others() -> None:
    recipe = step(print, settings=("curvature", "data.max_length", "model.pretrain.layers"), unhashed=("jobs",)).recipe
    assert recipe.curvature.damping == 0.1 and recipe.data.max_length == 512 and recipe.jobs == 2
    assert recipe.model.pretrain is None
    for refused in (
        lambda: recipe.seed,
        lambda: recipe.data.limit,
        lambda: recipe.model.dtype,
        lambda: recipe.model_dump,
    ):
        with pytest.raises(UndeclaredInputError, match="step own reads the setting"):
            refused()


def test_a_stage_that_reads_what_it_does_not_declare_fails_in_the_runner_too(tmp_path: Path) -> None:
    def one(context: Context) -> None:
        write_text(context.out / "x", "x")

    def two(context: Context) -> None:
        (context.step("one") / "x").read_text()

    with pytest.raises(UndeclaredInputError, match="step two reads 'one'"):
        run_stages([Stage("one", one), Stage("two", two)], RunFolder(tmp_path))
    assert run_stages([Stage("one", one), Stage("two", two, ("one",))], RunFolder(tmp_path)) == ["two"]


CHANGES: list[tuple[dict[str, Any], set[str], set[str]]] = [
    ({"jobs": 1}, {"report"}, {"records", "results"}),
    ({"scale": {"recompute": True}}, {"report"}, {"curvature", "directions", "scores", "results"}),
    ({"curvature": {"damping": 0.2}}, {"directions", "queries", "scores"}, {"curvature", "targets", "tokenized"}),
    ({"curvature": {"damping": 0.2, "fraction": "auto"}}, {"curvature"}, {"targets", "sft/original-s0"}),
    ({"scores": {"span_examples": 11}}, {"spans", "effects"}, {"scores", "directions", "queries", "tokenized"}),
    ({"scores": {"span_examples": 12, "query_top": 7}}, {"queries", "report"}, {"scores", "spans", "results"}),
    ({"data": {"world": "default", "limit": 30, "max_length": 400}}, {"tokenized", "sft/flip-s0"}, {"records"}),
    ({"eval": {"max_new_tokens": 99}}, {"evals/base", "responses"}, {"records", "sft/original-s0", "curvature"}),
    ({"targets": {"folds": 3, "minimum": 2, "samples": 4}}, {"targets", "directions"}, {"responses", "curvature"}),
    ({"arms": {"names": ["flip", "same-difficulty-swap"], "fraction": 0.2}}, {"arms", "sft/flip-s0"}, {"scores"}),
    ({"effects": {"bootstrap": 21}}, {"effects", "results"}, {"spans", "measure"}),
]


@pytest.mark.parametrize(("change", "anew", "kept"), CHANGES, ids=[str(c[0]) for c in CHANGES])
def test_a_changed_setting_makes_anew_what_depends_on_it_and_keeps_the_rest(
    tmp_path: Path, change: dict[str, Any], anew: set[str], kept: set[str]
) -> None:
    before, after = keys(mini(), tmp_path), keys(mini(**change), tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert anew <= changed and not kept & changed


def test_a_task_that_becomes_a_target_has_its_responses_drawn(tmp_path: Path) -> None:
    tasks = [{"name": "world-math", "target": "math", "limit": 24}, {"name": "world-code", "limit": 24}]
    before = keys(mini(tasks=tasks), tmp_path)
    after = keys(mini(tasks=[tasks[0], {**tasks[1], "target": "code"}]), tmp_path)
    assert before["responses"] != after["responses"] and before["targets"] != after["targets"]


def test_score_is_the_same_graph_with_artifacts_given(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1 + 1?", "response": "2"}\n')
    recipe = score_recipe(str(rows), str(rows), model={"base": str(BASE_MODEL)})
    scored = {s.name: s for s in stages_for(job_of_score(recipe, None))}
    run = {s.name: s for s in stages_for(job_of_run(mini()))}
    trained = {"responses", "arms", "measure", *(n for n in run if n.startswith(("sft/", "evals/")))}
    assert set(run) - set(scored) == trained and set(scored) <= set(run)
    assert all(stage.run is run[name].run and stage.settings == run[name].settings for name, stage in scored.items())
    with pytest.raises(ArtifactError, match="no finished stage 'targets'"):
        job = job_of_score(recipe, tmp_path)
        stages_for(job)
    earlier = RunFolder(tmp_path / "earlier")
    for name in ("targets", "directions"):
        with earlier.writing(name, {}, {}) as part:
            write_text(part / "sub" / "x", name)
    left = stages_for(job_of_score(recipe, earlier.root))
    assert set(scored) - {s.name for s in left} == {"curvature", "queries", "links"}
    taken = [s for s in left if s.name in ("targets", "directions")]
    assert all(not s.needs and not s.config and len(s.inputs) == 1 for s in taken)
    run_stages(taken, RunFolder(tmp_path / "new"))
    assert (tmp_path / "new/directions/sub/x").read_text() == "directions"


def test_stages_come_after_what_they_need_and_impossible_ones_are_named() -> None:
    a, b, c = Stage("a", print, ("c",)), Stage("b", print), Stage("c", print, ("b",))
    assert [s.name for s in in_order([a, b, c])] == ["b", "c", "a"]
    with pytest.raises(ValueError, match="stage a can never run"):
        in_order([a, b])
    with pytest.raises(ValueError, match="one name"):
        in_order([b, b])


def test_every_step_has_a_name_of_its_own_and_a_function_that_workers_can_import() -> None:
    import pickle

    assert len({s.name for s in STEPS}) == len(STEPS)
    for stage in stages_for(job_of_run(mini(validation={"minutes": 1}, strategies={"names": ["prune"]}))):
        assert pickle.loads(pickle.dumps(stage)).run is stage.run


def test_every_declared_setting_is_one_of_the_recipe() -> None:
    recipe = mini(model={"pretrain": {}}, validation={"minutes": 1}, strategies={"names": ["prune"]})
    for stage in stages_for(job_of_run(recipe)):
        for name in stage.settings:
            if name != "*":
                attrgetter(name)(recipe)  # an unknown name raises AttributeError


def test_a_member_of_a_family_knows_which_it_is(tmp_path: Path) -> None:
    context = context_of("sft/flip-s0", mini(), tmp_path / "out", tmp_path)
    assert (context.member.arm, context.member.seed, context.member.made_by) == ("flip", 0, "arms")
    assert context.model("sft/flip-s0") == tmp_path / "out" / "model"
