"""The explorer's answers against pandas and the arrays the run was written from."""

from __future__ import annotations

import io
import json
import socket
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from infra import report
from infra.errors import ArtifactError, InputError, ResourceError
from infra.report.explorer import open_run
from infra.report.explorer.app import build_app, parse_query
from infra.report.explorer.compare import effect_differences, rank_changes, recipe_differences
from infra.report.explorer.example import Opener
from infra.report.explorer.export import table_bytes
from infra.report.explorer.facets import facets
from infra.report.explorer.rows import Query, find_rows
from infra.report.explorer.search import parse_search
from infra.report.explorer.server import is_loopback

from .run_folder import answer, link_scores, write_run
from .test_report_parts import unpack


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("explorer") / "run-a"
    made = write_run(root)
    return root, made, pd.read_parquet(root / "scores" / "examples.parquet")


@pytest.fixture(scope="module")
def run(folder):
    return open_run(folder[0], wait=True)


@pytest.fixture(scope="module")
def client(run):
    return TestClient(build_app(run), base_url="http://localhost")


def ids(found):
    return [r["id"] for r in found["rows"]]


def test_sorting_and_paging_agree_with_pandas(run, folder):
    frame = folder[2]
    order = frame.sort_values("score_code", ascending=False, kind="stable")["id"].tolist()
    assert ids(find_rows(run, Query(sort="code"))) == order[:50]
    assert ids(find_rows(run, Query(sort="code", offset=50))) == order[50:100]
    upward = frame.sort_values("score_code", kind="stable")["id"].tolist()
    assert ids(find_rows(run, Query(sort="code", descending=False, limit=7))) == upward[:7]
    assert ids(find_rows(run, Query())) == frame["id"].tolist()[:50]


def test_filters_agree_with_pandas(run, folder):
    frame = folder[2]
    query = Query(equals={"domain": ["math"], "difficulty": ["1", "2"]}, ranges={"n_tokens": (400, None)}, limit=500)
    wanted = frame[(frame.domain == "math") & frame.difficulty.isin([1, 2]) & (frame.n_tokens >= 400)]
    found = find_rows(run, query)
    assert found["total"] == len(wanted) > 0
    assert set(ids(found)) == set(wanted["id"])
    nulls = find_rows(run, Query(equals={"style": ["\0"]}, limit=500))
    assert set(ids(nulls)) == set(frame[frame["style"].isna()]["id"])
    flags = find_rows(run, Query(equals={"verified": ["true"]}, limit=500))
    assert set(ids(flags)) == set(frame[frame["verified"]]["id"])


def test_search_finds_words_beyond_the_preview(run, folder):
    made = folder[1]
    assert ids(find_rows(run, Query(search="zanzibar20"))) == [made[20].id]
    found = set(ids(find_rows(run, Query(search="ZANZI mar", limit=500))))
    assert found == {made[i].id for i in range(0, len(made), 10)}
    assert find_rows(run, Query(search="zanzibar20 nosuchword"))["total"] == 0
    assert ids(find_rows(run, Query(search=made[5].id))) == [made[5].id]
    assert find_rows(run, Query(search="'; DROP TABLE examples; --"))["total"] == 0
    assert find_rows(run, Query())["total"] == len(made)


def test_search_uses_previews_until_the_words_are_ready(folder):
    unready = open_run(folder[0], words=False)
    assert find_rows(unready, Query(search="marbles"))["total"] == len(folder[1]) - 1
    assert find_rows(unready, Query(search="zanzibar20"))["total"] == 0


def test_a_phrase_in_quotes_matches_words_next_to_each_other(run, folder):
    made = folder[1]
    asked = {i for i, v in enumerate(made) if "How many are left" in v.text}
    phrase = find_rows(run, Query(search='"MANY are left?"', limit=500))
    assert set(ids(phrase)) == {made[i].id for i in asked} and 0 < len(asked) < len(made)
    assert find_rows(run, Query(search='"left are many"'))["total"] == 0
    assert find_rows(run, Query(search='"many are lef"'))["total"] == 0  # whole words
    assert find_rows(run, Query(search="left are man"))["total"] == len(asked)
    both = find_rows(run, Query(search='zanz "how many"', limit=500))
    assert set(ids(both)) == {made[i].id for i in asked if i % 10 == 0}
    assert parse_search('a "b c" d "e') == parse_search('a d "b c" "e"')


def test_words_of_every_script_are_found_whole(tmp_path, folder):
    write_run(tmp_path / "run", n=12)
    file = tmp_path / "run" / "records" / "train.parquet"
    rows = pd.read_parquet(file)
    rows["messages"] = [[{"role": "user", "content": f"Le café numéro {i} est fermé"}] for i in range(len(rows))]
    rows.to_parquet(file, index=False)
    other = open_run(tmp_path / "run", wait=True)
    assert find_rows(other, Query(search="CAFÉ"))["total"] == 12
    assert find_rows(other, Query(search='"café numéro 7"'))["total"] == 1
    assert find_rows(other, Query(search="caf numero"))["total"] == 0


def test_facet_counts_follow_the_other_filters_and_not_their_own(client, folder):
    frame = folder[2]
    asked = {"equals": json.dumps({"domain": ["math"], "difficulty": ["1", "2"]}), "search": "marbles"}
    asked["ranges"] = json.dumps({"score_math": [0, None], "n_tokens": [400, None]})
    found = client.get("/api/facets", params=asked).json()
    base = frame[(frame.score_math >= 0) & (frame.n_tokens >= 400) & frame.preview.str.contains("marbles")]
    math, easy = base.domain == "math", base.difficulty.isin([1, 2])
    for name, rows in {"domain": base[easy], "difficulty": base[math], "family": base[math & easy]}.items():
        assert dict(map(tuple, found[name])) == {str(k): v for k, v in rows[name].value_counts().items()}
    assert dict(map(tuple, found["style"])).get(None) == int(base[math & easy]["style"].isna().sum())


def test_a_histogram_counts_what_passes_the_other_filters(client, folder):
    frame = folder[2]
    asked = {"of": "score_code", "equals": json.dumps({"domain": ["math"]})}
    asked["ranges"] = json.dumps({"score_code": [1e9, None]})
    found = client.get("/api/histogram", params=asked).json()
    assert sum(found["all"]) == len(frame) and sum(found["counts"]) == int((frame.domain == "math").sum())
    inside = frame.score_code.clip(found["low"], found["high"])
    expected, _ = np.histogram(inside, bins=len(found["all"]), range=(found["low"], found["high"]))
    assert np.abs(np.array(found["all"]) - expected).sum() <= 2  # a score on a bin's edge
    assert client.get("/api/histogram", params={"of": "domain"}).status_code == 400


def test_the_list_is_exported_whole_in_its_order_with_every_column(client, folder):
    frame = folder[2]
    asked = {"sort": "code", "equals": json.dumps({"domain": ["math"]})}
    wanted = frame[frame.domain == "math"].sort_values("score_code", ascending=False, kind="stable")
    table = pd.read_parquet(io.BytesIO(client.get("/api/export", params={**asked, "format": "parquet"}).content))
    pd.testing.assert_frame_equal(table, wanted.reset_index(drop=True), check_dtype=False)
    rows = pd.read_csv(io.BytesIO(client.get("/api/export", params={**asked, "format": "csv"}).content))
    assert rows["id"].tolist() == wanted["id"].tolist() and list(rows) == list(frame)
    np.testing.assert_allclose(rows["score_code"], wanted["score_code"], rtol=1e-6)
    assert client.get("/api/export", params={"format": "xls"}).status_code == 400


def test_a_formula_in_a_text_does_not_run_in_a_spreadsheet():
    table = pa.table({"a": ["=1+1", "-2.5", "@x", "plain", None], "b": [-1.5, 2.0, None, 0.0, 1.0]})
    rows = table_bytes(table, "csv").decode().splitlines()
    assert rows == ["a,b", "'=1+1,-1.5", "-2.5,2.0", "'@x,", "plain,0.0", ",1.0"]


def test_any_table_of_the_page_becomes_a_parquet_file(client):
    columns = [["id", "code"], ["effect", "effect"], ["n", "int"], ["value", "text"]]
    sent = {"columns": columns, "rows": [["a", 1, 3, "easy"], ["b", None, None, 2], ["c", 0.25, 5, None]]}
    table = pq.read_table(io.BytesIO(client.post("/api/parquet", json=sent).content))
    assert table.to_pydict() == {
        "id": ["a", "b", "c"],
        "effect": [1.0, None, 0.25],
        "n": [3, None, 5],
        "value": ["easy", "2", None],
    }
    assert table.schema.field("effect").type == pa.float64() and table.schema.field("n").type == pa.int64()
    for wrong in ({"columns": 3}, {"columns": [["a", "b"]], "rows": [[]]}, [], {"columns": [["a", "x"]], "rows": 5}):
        assert client.post("/api/parquet", json=wrong).status_code == 400


def test_an_answer_names_the_steps_that_raised_each_of_its_tokens(client, folder):
    by_id = {v.id: v for v in folder[1]}
    given = answer(3)
    found = client.get("/api/query", params={"query": "q3"}).json()["answer"]
    text = found["text"].encode("utf-16-le")
    pieces = [text[2 * a : 2 * b].decode("utf-16-le") for a, b in zip(found["starts"], found["ends"])]
    assert pieces == [given.text[a:b] for a, b in given.token_offsets] and "👩" in "".join(pieces)
    assert [tuple(s[:2]) for s in found["steps"]] == [s[:2] for s in given.steps]
    assert len(found["links"]) == 10
    for link in found["links"]:
        np.testing.assert_allclose(link["scores"], link_scores(3, by_id[link["id"]]), rtol=1e-6)
        assert [(u["t0"], u["t1"]) for u in link["units"]] == [s[:2] for s in by_id[link["id"]].steps]


def test_a_training_step_leads_to_the_part_of_the_answer_that_it_raised_most(client, folder):
    given = answer(3)
    first = client.get("/api/query", params={"query": "q3"}).json()["answer"]["links"][0]
    back = client.get("/api/links", params={"id": first["id"]}).json()
    units = next(q for q in back if q["query"] == "q3")["units"]
    block = np.array(first["scores"])
    for k, unit in enumerate(units):
        sums = [block[k, a:b].sum() for a, b, _ in given.steps]
        assert unit["step"] == int(np.argmax(sums)) and unit["step_value"] == pytest.approx(max(sums), rel=1e-5)
        assert unit["value"] == pytest.approx(block[k].sum(), rel=1e-4)


def test_links_that_do_not_fit_their_answer_are_refused(tmp_path):
    write_run(tmp_path / "run", n=12)
    file = tmp_path / "run" / "links" / "links.parquet"
    rows = pd.read_parquet(file)
    rows["scores"] = [s[:-1] for s in rows["scores"]]
    rows.to_parquet(file, index=False)
    web = TestClient(build_app(open_run(tmp_path / "run", words=False)), base_url="http://localhost")
    assert "do not fit its answer" in web.get("/api/query", params={"query": "q3"}).json()["error"]


def test_a_run_without_links_shows_its_queries_as_before(tmp_path):
    write_run(tmp_path / "run", n=12)
    for file in (tmp_path / "run" / "links").iterdir():
        file.unlink()
    web = TestClient(build_app(open_run(tmp_path / "run", words=False)), base_url="http://localhost")
    assert web.get("/api/run").json()["links"] is False
    found = web.get("/api/query", params={"query": "q3"}).json()
    assert found["answer"] is None and len(found["rows"]) > 0
    assert all(q["units"] == [] for q in web.get("/api/links", params={"id": found["rows"][0]["id"]}).json())


def test_two_targets_of_one_run_are_compared_within_a_set(client, folder):
    frame = folder[2]
    asked = {"target": "math", "against": "code", "run": "this", "set": "train"}
    found = client.get("/api/compare", params=asked).json()
    train = frame[frame.set == "train"]
    assert found["n"] == len(train) < len(frame)
    assert found["spearman"] == pytest.approx(train["score_math"].corr(train["score_code"], method="spearman"))
    assert "effects" not in found and "recipe" not in found


def test_facets_count_every_value_and_give_ranges(run, folder):
    frame = folder[2]
    found = {f["name"]: f for f in facets(run)}
    assert dict(map(tuple, found["difficulty"]["values"])) == {
        str(k): v for k, v in frame.difficulty.value_counts().items()
    }
    assert [None, int(frame["style"].isna().sum())] in found["style"]["values"]
    assert found["n_tokens"]["kind"] == "range"
    assert found["n_tokens"]["range"] == [frame.n_tokens.min(), frame.n_tokens.max()]


def test_columns_and_targets_that_are_not_there_are_refused(run):
    for query in (Query(equals={"nope": ["1"]}), Query(sort='x" --'), Query(ranges={"nope": (0, 1)})):
        with pytest.raises(InputError, match="no column"):
            find_rows(run, query)
    with pytest.raises(InputError, match="cannot be asked"):
        parse_query({"equals": "[]"})
    with pytest.raises(InputError, match="cannot be asked"):
        parse_query({"offset": "many"})


def test_an_opened_example_holds_the_exact_scores(run, folder, client):
    view = folder[1][70]
    opened = Opener(run).open(view.id, "math-hard")
    np.testing.assert_array_equal(opened.scores["loss"][0], view.scores["loss"][2])
    np.testing.assert_array_equal(opened.scores["position"][0], view.scores["position"][2])
    np.testing.assert_array_equal(opened.token_offsets, view.token_offsets)
    np.testing.assert_array_equal(opened.loss_mask, view.loss_mask)
    assert opened.text == view.text
    assert [tuple(s) for s in opened.steps] == list(view.steps)
    header, _, body = unpack(client.get("/api/example", params={"id": view.id, "target": "code"}).content)
    assert header["levels"] is None and header["targets"] == ["code"]
    np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(2, -1)[0], view.scores["loss"][1])


def test_the_fixed_scale_comes_from_tokens_under_the_loss(client, run):
    found = client.get("/api/scale", params={"target": "math"}).json()
    assert set(found) == {"loss", "position"}
    sample = [pd.read_parquet(run.root / "scores" / "tokens" / f"train-0000{s}.parquet").iloc[:16] for s in (0, 1)]
    values = np.abs(np.concatenate([v for part in sample for v in part["loss_math"]]))
    values = np.sort(values[values > 0])
    assert found["loss"] == pytest.approx(values[int(np.ceil(0.999 * (len(values) - 1)))])
    assert Opener(run).scale("none") == {}


def test_a_query_leads_to_its_examples_their_tokens_and_back(client, folder):
    listed = client.get("/api/queries", params={"search": "number 3"}).json()
    assert [q["query"] for q in listed["rows"]] == ["q3"]
    assert client.get("/api/queries", params={"search": '"number 3" marbles'}).json()["total"] == 1
    assert client.get("/api/queries", params={"search": '"3 number"'}).json()["total"] == 0
    opened = client.get("/api/query", params={"query": "q3"}).json()
    top = [r for r in opened["rows"] if r["side"] == "top"]
    assert [r["rank"] for r in top] == list(range(1, 11))
    assert top[0]["influence"] == 5.0
    back = client.get("/api/links", params={"id": top[0]["id"]}).json()
    assert ("q3", "top", 1) in [(r["query"], r["side"], r["rank"]) for r in back]
    blob = client.get("/api/example", params={"id": top[0]["id"], "query": "q3"})
    header, _, body = unpack(blob.content)[:3]
    assert set(np.frombuffer(body, "<f4")) == {4.0}
    assert header["decompositions"] == ["position"] and header["totals"] == [5.0]


def test_two_runs_are_compared(tmp_path, folder):
    root = tmp_path / "run-b"
    write_run(root, shift=0.05, recipe={"name": "run-b", "model": {"base": "world"}, "seed": 7, "damping": 0.2})
    a, b = open_run(folder[0], words=False), open_run(root, words=False)
    one, two = folder[2], pd.read_parquet(root / "scores" / "examples.parquet")
    found = rank_changes(a, b, "math")
    ranks = one["score_math"].rank(ascending=False), two["score_math"].rank(ascending=False)
    assert found["n"] == len(one)
    assert found["spearman"] == pytest.approx(one["score_math"].corr(two["score_math"], method="spearman"))
    first = found["table"].iloc[0]
    assert abs(first["change"]) == (ranks[0] - ranks[1]).abs().max()
    differ = effect_differences(a, b)
    assert differ is not None and (differ["difference"] == 0).all() and not differ["apart"].any()
    settings = recipe_differences(a, b).set_index("setting")
    assert settings.loc["damping", "a"] == "–" and settings.loc["damping", "b"] == "0.2"
    assert settings.loc["seed"].tolist() == ["0", "7"]
    web = TestClient(build_app(a, b), base_url="http://localhost")
    assert web.get("/api/compare", params={"target": "math"}).json()["n"] == len(one)
    assert web.get("/api/compare", params={"target": "none"}).status_code == 400


def test_answers_carry_a_policy_and_refuse_other_hosts(client):
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/api/example", params={"id": "none"}).json()["error"] == "this run has no example 'none'"
    assert client.get("/api/example").status_code == 400
    assert client.get("/api/rows", params={"equals": json.dumps({"nope": ["1"]})}).status_code == 400
    assert client.get("/../recipe.json").status_code == 404
    assert client.get("/report").status_code == 200


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"examples\.parquet is missing"):
        open_run(tmp_path)
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "examples.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_run(tmp_path)


def test_the_index_is_kept_and_made_again_when_the_run_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("INFRA_CACHE", str(tmp_path / "cache"))
    root, kept = tmp_path / "run", tmp_path / "cache" / "explorer"
    write_run(root, n=12)
    open_run(root, wait=True).database.close()
    (first,) = kept.glob("*.duckdb")
    open_run(root, wait=True).database.close()
    assert [f.name for f in kept.glob("*.duckdb")] == [first.name]
    time.sleep(0.01)
    frame = pd.read_parquet(root / "scores" / "examples.parquet")
    frame.assign(domain="changed").to_parquet(root / "scores" / "examples.parquet", index=False)
    write_run(tmp_path / "another", n=12)
    open_run(tmp_path / "another", wait=True).database.close()
    again = open_run(root, wait=True)
    assert find_rows(again, Query(equals={"domain": ["changed"]}))["total"] == 12
    assert first.name not in {f.name for f in kept.glob("*.duckdb")} and len(list(kept.glob("*.duckdb"))) == 2


def test_without_the_extra_the_user_is_told_what_to_install(monkeypatch, folder):
    for name in ("starlette", "starlette.applications", "infra.report.explorer.app"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"infra-attribution\[view\]"):
        report.serve(folder[0])


def test_a_taken_port_is_named(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"port {port} on 127.0.0.1 cannot be used"):
            report.serve(folder[0], port=port)


def test_serving_to_other_machines_is_said(monkeypatch, folder, capsys):
    served = []
    monkeypatch.setattr("uvicorn.run", lambda app, **how: served.append(how))
    report.serve(folder[0], host="0.0.0.0", port=0)
    assert "whoever can reach port" in capsys.readouterr().err
    report.serve(folder[0], port=0)
    assert capsys.readouterr().err == ""
    assert [how["host"] for how in served] == ["0.0.0.0", "127.0.0.1"]


def test_only_loopback_counts_as_this_machine():
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.8.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.4", "example.org", "::")))
