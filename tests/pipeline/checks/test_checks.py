"""Whatever is cheap to find is found before any weights are loaded, all of it in one message; nothing is written."""

from __future__ import annotations

import re
import socket

import pytest

from infra.errors import ArtifactError, InfraError, InputError, ModelError, ResourceError
from infra.pipeline import run_subject
from infra.pipeline.checks import CHECKS, OF_THE_MODEL, check
from infra.pipeline.recipe import parse_recipe
from infra.pipeline.score import run_score, score_recipe, score_subject
from infra.world import BASE_MODEL
from tests.pipeline.checks.conftest import row, tree, write

LONG = "very " * 300 + "long."


def recipe_of(files, changes=(), **settings):
    model = {"base": str(BASE_MODEL), **settings.pop("model", {})}
    return score_recipe(files["train"], files["queries"], changes, model=model, **settings)


def found(files, folder, changes=(), **settings) -> str:
    """What `infra score` says when it is refused."""
    before = tree(folder.parent)
    with pytest.raises(InfraError) as error:
        run_score(recipe_of(files, changes, **settings), folder, None)
    assert tree(folder.parent) == before, "a refused command wrote something"
    return str(error.value)


def test_what_is_in_order_passes(good, tmp_path):
    check(score_subject(recipe_of(good), tmp_path / "run", None))


def test_a_long_record_and_a_long_query_are_named_with_file_line_and_remedy(good, tmp_path):
    good["train"] = write(tmp_path / "train.jsonl", [row(0), row(1, LONG), row(2), row(3, LONG + LONG)])
    good["queries"] = write(tmp_path / "queries.jsonl", [row(10), row(11), row(12, LONG)])
    said = found(good, tmp_path / "run", data={"max_length": 128})
    assert re.search(r"2 of 4 records of \S+train\.jsonl are longer .*: line 2 has [\d,]+; line 4 has [\d,]+;", said)
    assert re.search(r"1 of 3 records of \S+queries\.jsonl are longer .*: line 3 has [\d,]+;", said)
    lengths = [int(n.replace(",", "")) for n in re.findall(r"has ([\d,]+)", said)]
    assert len(lengths) == 3 and all(n > 128 for n in lengths)
    assert f"--max-length {max(lengths[:2])}" in said and "--on-error skip" in said
    # what the message says to type is enough
    check(score_subject(recipe_of(good, data={"max_length": max(lengths)}), tmp_path / "run", None))
    check(score_subject(recipe_of(good, data={"max_length": 128, "on_error": "skip"}), tmp_path / "run", None))


def test_a_query_of_the_same_id_as_a_training_record_is_measured_by_itself(good, tmp_path):
    good["train"] = write(tmp_path / "train.jsonl", [row(0), row(1, LONG)])
    good["queries"] = write(tmp_path / "queries.jsonl", [row(1), row(0, LONG)])
    said = found(good, tmp_path / "run", data={"max_length": 128})
    assert len(re.findall(r"1 of 2 records of \S+ are longer .*: line 2 has", said)) == 2


def test_two_sources_that_give_one_id_to_different_records_are_refused_with_both_places(tmp_path):
    recipe = whole(tmp_path)
    write(tmp_path / "pool.jsonl", [row(0, "Another answer.", difficulty=1)])
    said = refused(recipe, tmp_path / "run")
    assert "'r0' names two different records" in said and "train.jsonl, line 1" in said and "pool.jsonl, line 1" in said


def test_records_beyond_the_limit_do_not_count(good, tmp_path):
    good["train"] = write(tmp_path / "train.jsonl", [row(0), row(1), row(2, LONG)])
    check(score_subject(recipe_of(good, data={"max_length": 128, "limit": 2}), tmp_path / "run", None))


def test_passing_over_long_records_must_leave_some(good, tmp_path):
    good["queries"] = write(tmp_path / "queries.jsonl", [row(12, LONG)])
    said = found(good, tmp_path / "run", data={"max_length": 128, "on_error": "skip"})
    assert "every query is longer than 128" in said


def test_every_bad_row_of_every_file_is_named(good, tmp_path):
    good["train"] = write(tmp_path / "train.jsonl", [row(0), '{"id": "x"\n', row(2), '["no object"]\n'])
    good["queries"] = write(tmp_path / "queries.jsonl", [row(3), "nonsense\n"])
    said = found(good, tmp_path / "run")
    assert "train.jsonl: 2 rows" in said and "line 2" in said and "line 4" in said
    assert "queries.jsonl: a row" in said and "--on-error skip" in said


def test_two_missing_files_are_both_named(good, tmp_path):
    files = {"train": str(tmp_path / "no.jsonl"), "queries": str(tmp_path / "none.jsonl")}
    said = found(files, tmp_path / "run")
    assert "no.jsonl" in said and "none.jsonl" in said and said.startswith("2 problems")


def test_a_pattern_that_matches_no_weight_of_this_model(good, tmp_path):
    said = found(good, tmp_path / "run", curvature={"tracked": "mlpp"})
    assert "'mlpp'" in said and "--tracked" in said


def test_a_pattern_that_touches_what_cannot_be_tracked(good, tmp_path):
    said = found(good, tmp_path / "run", curvature={"tracked": "embed_tokens"})
    assert "embed_tokens" in said and "no linear map" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": {"device": "cuda:7"}}, "cuda:7"),
        ({"model": {"device": "tpu"}}, "tpu"),
        ({"model": {"base": "./no-such-model"}}, "no-such-model"),
        ({"method": "no-such-method"}, "no-such-method"),
        ({"effects": {"attributes": ["dificulty"]}}, "dificulty"),
        ({"scores": {"token_targets": ["maths"]}}, "maths"),
        ({"data": {"difficulty": {"chemistry": "text-estimate"}}}, "chemistry"),
        ({"scale": {"launcher": "slurm"}}, "submitit"),
    ],
)
def test_a_name_that_nothing_answers_to(good, tmp_path, settings, words):
    if words == "submitit":
        pytest.importorskip("infra")  # the extra may be installed where this runs
        import importlib.util

        if importlib.util.find_spec("submitit") is not None:
            pytest.skip("submitit is installed here")
    assert words in found(good, tmp_path / "run", **settings)


def test_an_attribute_of_the_data_may_be_named(good, tmp_path):
    good["train"] = write(tmp_path / "train.jsonl", [row(i, topic="sums") for i in range(4)])
    check(score_subject(recipe_of(good, effects={"attributes": ["topic"]}), tmp_path / "run", None))


def test_all_faults_are_listed_at_once(good, tmp_path):
    good["train"] = write(tmp_path / "train.jsonl", [row(0), row(1, LONG), "nonsense\n"])
    said = found(
        good,
        tmp_path / "run",
        data={"max_length": 128},
        curvature={"tracked": "mlpp"},
        model={"device": "cuda:7"},
        method="no-such-method",
        effects={"attributes": ["dificulty"]},
    )
    for word in ("cuda:7", "no-such-method", "dificulty", "mlpp", "line 2 has ", "line 3: "):
        assert word in said, word
    assert said.startswith("6 problems") and said.count("\n") == 6


def test_a_folder_of_somebody_elses_is_not_written_to(good, tmp_path):
    theirs = tmp_path / "thesis"
    theirs.mkdir()
    (theirs / "chapter1.tex").write_text("Once upon a time")
    assert "chapter1.tex" in found(good, theirs)
    assert "train.jsonl" in found(good, tmp_path)  # the folder of the data itself


def test_a_log_beside_a_run_that_is_to_begin_is_no_obstacle(good, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "today.log").write_text("")
    check(score_subject(recipe_of(good), tmp_path / "run", None))


def test_a_folder_that_cannot_be_written(good, tmp_path):
    (tmp_path / "file").write_text("")
    assert "choose another --out" in found(good, tmp_path / "file" / "run")


def test_too_little_memory_and_too_little_disk(good, tmp_path, monkeypatch):
    from infra.pipeline.checks import room

    monkeypatch.setattr(room, "free_memory", lambda device: 1_000_000)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda place: room.shutil._ntuple_diskusage(10, 10, 1000))
    said = found(good, tmp_path / "run")
    assert "of memory on cpu, and 0.0 GB are free" in said and "no space left for the run" in said


def test_directions_of_another_model_are_refused(good, tmp_path):
    run = tmp_path / "earlier"
    write_directions(run)
    with pytest.raises(ModelError, match="hash"):
        run_score(recipe_of(good), tmp_path / "run", run)
    (run / "directions" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="no finished"):
        run_score(recipe_of(good), tmp_path / "run", run)
    assert not (tmp_path / "run").exists()


def write_directions(run):
    from infra.store import write_json

    (run / "directions").mkdir(parents=True)
    write_json(run / "directions" / "method.json", {"model_hash": "0" * 64})
    empty = {"stage": "directions", "key": "k", "config": {}, "inputs": {}, "outputs": {}}
    write_json(run / "directions" / "manifest.json", empty)


# infra run


def whole(tmp_path, **changes):
    """A recipe of `infra run` on small files: training data and pool, one benchmark."""
    files = {
        "train": write(tmp_path / "train.jsonl", [row(i, difficulty=1 + i % 5) for i in range(20)]),
        "pool": write(tmp_path / "pool.jsonl", [row(50 + i, difficulty=1 + i % 5) for i in range(20)]),
        "code": write(
            tmp_path / "code.jsonl",
            [{**row(200 + i), "prompt": f"Write f{i}", "domain": "code", "difficulty": 1 + i % 5} for i in range(20)],
        ),
    }
    problems = [{"question": f"Sum of {i} and 2?", "answer": f"We add.\n#### {i + 2}"} for i in range(30)]
    write(tmp_path / "gsm.jsonl", problems)
    both = {"train": 0.5, "pool": 0.5}
    raw = {
        "name": "small",
        "data": {
            "max_length": 400,
            "sources": [
                {"path": files["train"]},
                {"path": files["pool"], "shares": {"pool": 1.0}},
                {"path": files["code"], "shares": both},
            ],
        },
        "model": {"base": str(BASE_MODEL)},
        "tasks": [{"name": "gsm8k", "path": str(tmp_path / "gsm.jsonl"), "target": "math"}],
        **changes,
    }
    return parse_recipe(raw, where="small", folder=tmp_path)


def refused(recipe, folder, **how) -> str:
    with pytest.raises(InfraError) as error:
        check(run_subject(recipe, folder, **how))
    return str(error.value)


def test_a_whole_run_in_order_passes(tmp_path):
    check(run_subject(whole(tmp_path), tmp_path / "run"))


def test_unknown_tasks_and_unreadable_ones_are_named(tmp_path):
    tasks = [
        {"name": "gsm8k", "path": str(tmp_path / "gsm.jsonl"), "target": "math"},
        {"name": "no-such-task"},
        {"name": "math500", "path": str(tmp_path / "nowhere.jsonl")},
        {"name": "mbpp", "path": str(tmp_path / "gsm.jsonl")},
    ]
    said = refused(whole(tmp_path, tasks=tasks), tmp_path / "run")
    for word in ("tasks.1 (no-such-task)", "nowhere.jsonl", "tasks.3 (mbpp)"):
        assert word in said


def test_an_answer_must_fit_behind_its_problem(tmp_path):
    said = refused(whole(tmp_path, eval={"max_new_tokens": 390}), tmp_path / "run")
    assert "eval.max_new_tokens" in said and "--set data.max_length=" in said


def test_domains_and_levels_that_arms_swap_must_be_there(tmp_path):
    recipe = whole(tmp_path)
    only_math = recipe.data.model_copy(update={"sources": recipe.data.sources[:2]})
    assert "no record of domain 'code'" in refused(recipe.model_copy(update={"data": only_math}), tmp_path / "run")
    only_train = recipe.data.model_copy(update={"sources": recipe.data.sources[:1]})
    assert "no pool records" in refused(recipe.model_copy(update={"data": only_train}), tmp_path / "run")
    write(tmp_path / "train.jsonl", [row(i) for i in range(20)])
    assert "no difficulty level" in refused(recipe, tmp_path / "run")


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_servers_and_judges_must_answer_unless_offline(tmp_path):
    url = f"http://127.0.0.1:{closed_port()}/v1"
    recipe = whole(tmp_path, eval={"server": url}, scores={"judge": {"server": url, "model": "m"}})
    said = refused(recipe, tmp_path / "run")
    assert "eval.server" in said and "scores.judge" in said and "--offline" in said
    check(run_subject(recipe, tmp_path / "run", offline=True))


def test_a_model_is_not_fetched_for_a_command_that_is_refused_anyway(tmp_path, monkeypatch):
    from infra.pipeline.checks import subject

    asked = []

    def folder(path, fetch=True):
        asked.append(fetch)
        return None

    monkeypatch.setattr(subject, "model_folder", folder)
    refused(whole(tmp_path, model={"base": "org/far-away", "device": "cuda:7"}), tmp_path / "run")
    assert asked and not any(asked)


def test_each_kind_of_error_keeps_its_exit_code(good, tmp_path):
    for kind, settings in (
        (InputError, {"method": "no-such-method"}),
        (ModelError, {"curvature": {"tracked": "embed_tokens"}}),
    ):
        with pytest.raises(kind):
            check(score_subject(recipe_of(good, **settings), tmp_path / "run", None))
    assert ResourceError.exit_code == 5


def test_every_check_says_what_it_asks_for():
    checks = (*CHECKS, *OF_THE_MODEL)
    assert all(c.__doc__ for c in checks) and len({c.__name__ for c in checks}) == len(checks)
