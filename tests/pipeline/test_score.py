"""`infra score`: the reader's own model and data, no training."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.errors import InputError, ModelError
from infra.pipeline import run_logged
from infra.pipeline.score import run_score, score_recipe, score_stages
from infra.store import RunFolder
from infra.world import BASE_MODEL, build_world


def write(path, records, form):
    rows = []
    for r in records:
        question, answer = r.question, r.response
        if form == "messages":
            rows.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
        elif form == "sharegpt":
            rows.append({"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]})
        else:
            rows.append({"prompt": question, "response": answer})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def settings():
    return {
        "data": {"max_length": 512},
        "model": {"base": str(BASE_MODEL)},
        "targets": {"folds": 2, "minimum": 4},
        "effects": {"bootstrap": 20},
        "scores": {"span_examples": 5, "token_targets": ("math", "unknown")},
    }


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    train = [r for r in build_world().train if r.domain == "math"]
    files = [
        write(folder / f"{form}.jsonl", train[i * 8 : i * 8 + 8], form)
        for i, form in enumerate(("messages", "sharegpt", "prompt"))
    ]
    recipe = score_recipe(files[0], files[1], **settings())
    run_score(recipe, folder / "run", None)
    return folder, files


def test_every_example_has_a_score_and_the_page_is_there(scored):
    folder, _ = scored
    table = pd.read_parquet(folder / "run" / "scores" / "examples.parquet")
    column = next(c for c in table.columns if c.startswith("score_"))
    assert len(table) == 8 and np.isfinite(table[column]).all() and (folder / "run" / "report.html").exists()


def test_new_candidates_are_scored_with_an_earlier_runs_directions(scored):
    folder, files = scored
    run_score(score_recipe(files[2], None, **settings()), folder / "new", folder / "run")
    again = run_score(score_recipe(files[0], None, **settings()), folder / "same", folder / "run")
    old = pd.read_parquet(folder / "run" / "scores" / "examples.parquet").set_index("id")
    same = pd.read_parquet(folder / "same" / "scores" / "examples.parquet").set_index("id")
    column = next(c for c in old.columns if c.startswith("score_"))
    assert again.exists() and np.allclose(old[column], same[column].loc[old.index], rtol=1e-5)


def test_another_model_is_refused(scored, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, files = scored
    model = AutoModelForCausalLM.from_pretrained(BASE_MODEL)
    model.model.norm.weight.data += 0.1
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained(tmp_path / "other")
    changed = {**settings(), "model": {"base": str(tmp_path / "other")}}
    with pytest.raises(ModelError, match="hash"):
        run_score(score_recipe(files[2], None, **changed), tmp_path / "run", folder / "run")


def test_a_malformed_row_is_named_and_can_be_skipped(scored, tmp_path):
    _, files = scored
    bad = tmp_path / "bad.jsonl"
    good = Path(files[0]).read_text()
    bad.write_text(good + '{"messages": [{"role": "alien", "content": "x"}]}\n' + '{"mess')
    with pytest.raises(InputError, match=r"bad\.jsonl.*9"):
        run_score(score_recipe(str(bad), files[1], **settings()), tmp_path / "a", None)
    skipping = {**settings(), "data": {"max_length": 512, "on_error": "skip"}}
    recipe = score_recipe(str(bad), files[1], **skipping)
    records = [s for s in score_stages(recipe, None) if s.name == "records"]
    run_logged(records, RunFolder(tmp_path / "b"), recipe)
    dropped = json.loads((tmp_path / "b" / "records" / "dropped.json").read_text())
    assert len(dropped["skipped"]) == 2 and "alien" in json.dumps(dropped["skipped"])


def test_content_and_format_add_up_to_the_score_over_all_tokens(scored):
    folder, files = scored
    given = settings()
    content = {**given, "scores": {**given["scores"], "tokens": "content"}}
    run_score(score_recipe(files[0], None, **content), folder / "content", folder / "run")
    whole = pd.read_parquet(folder / "run" / "scores" / "examples.parquet").set_index("id")
    parts = pd.read_parquet(folder / "content" / "scores" / "examples.parquet").set_index("id").loc[whole.index]
    score = next(c for c in whole.columns if c.startswith("score_"))
    form = score.replace("score_", "format_")
    assert np.allclose(parts[score] + parts[form], whole[score], rtol=1e-4, atol=1e-5 * whole[score].abs().max())
    assert np.allclose(parts[form], whole[form], rtol=1e-4) and (parts[form] != 0).any()
    for run in ("run", "content"):
        told = json.loads((folder / run / "scores" / "check.json").read_text())
        assert max(told["token_sums_against_example_scores"].values()) < 1e-4
        assert all(0 < share < 1 for share in told["template_share"].values())
    top = pd.read_parquet(folder / "content" / "results" / "tables" / "top_tokens.parquet")
    assert not top.token.str.contains("im_end").any(), "a template token is ranked among the content's"


def test_f_over_content_has_its_own_directions_and_the_queries_say_what_it_is_over(scored, tmp_path):
    from infra.data import TokenizedFile

    folder, files = scored
    given = settings()
    recipe = score_recipe(files[0], files[1], **{**given, "targets": {**given["targets"], "tokens": "content"}})
    run_score(recipe, tmp_path / "run", None)
    queries = list(TokenizedFile.open(tmp_path / "run" / "targets" / "tokenized.parquet").stream())
    assert all(q.content_mask is not None and (q.loss_mask == q.content_mask).all() for q in queries)
    before = list(TokenizedFile.open(folder / "run" / "targets" / "tokenized.parquet").stream())
    assert all(q.template_mask.any() for q in before)


def test_the_page_and_the_summary_say_whether_the_model_is_near_the_end_of_training(scored):
    folder, _ = scored
    found = json.loads((folder / "run" / "convergence" / "convergence.json").read_text())
    results = json.loads((folder / "run" / "summary.json").read_text())["results"]
    assert results["convergence"] == found and found["examples"] == 8
    said = "what a first step on this data would teach" in (folder / "run" / "report.html").read_text()
    assert said is not found["holds"]


def test_a_warm_up_keeps_its_model_attributes_it_and_is_not_made_again(scored, tmp_path):
    from infra.models import model_hash

    _, files = scored
    recipe = score_recipe(files[0], files[1], **settings(), warmup={"examples": 6, "epochs": 2.0, "batch_size": 3})
    run_score(recipe, tmp_path / "run", None)
    model = tmp_path / "run" / "sft" / "original-s0" / "model"
    told = json.loads((model.parent / "warmup.json").read_text())
    assert told["examples"] == 6 and told["steps"] == 4 and told["lora_rank"] is None
    fitted_on = json.loads((tmp_path / "run" / "directions" / "method.json").read_text())["model_hash"]
    assert fitted_on == model_hash(str(model)) != model_hash(str(BASE_MODEL))
    assert "after a warm-up on 6 of these examples" in (tmp_path / "run" / "report.html").read_text()
    before = (model / "model.safetensors").stat().st_mtime_ns
    run_score(recipe, tmp_path / "run", None)
    assert (model / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="--warmup makes a new model"):
        run_score(recipe, tmp_path / "other", tmp_path / "run")
