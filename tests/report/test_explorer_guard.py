"""Run folders from somebody else, and requests that no page of ours would send."""

from __future__ import annotations

import itertools
import json
import random
import time
import tracemalloc

import duckdb
import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from infra.errors import ArtifactError, InputError
from infra.report.explorer import open_run
from infra.report.explorer.app import build_app, parse_query
from infra.report.explorer.example import here
from infra.report.explorer.guard import locked
from infra.report.explorer.queries import find_queries
from infra.report.explorer.rows import Query, find_rows
from infra.report.explorer.search import MAX_WORDS

from .run_folder import write_run


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("INFRA_CACHE", str(root))
    return root / "explorer"


@pytest.fixture
def root(tmp_path):
    write_run(tmp_path / "run", n=12)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    write_run(folder, n=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFRA_CACHE", str(folder.parent / "cache"))
        run = open_run(folder, wait=True)
    return TestClient(build_app(run, run), base_url="http://localhost", raise_server_exceptions=False)


def secret_file(tmp_path):
    file = tmp_path / "secret.parquet"
    pd.DataFrame({"id": ["secret"], "domain": ["s"], "preview": ["the secret"], "score_math": [1.0]}).to_parquet(file)
    return file


def test_an_index_shipped_with_the_run_is_never_opened(root, tmp_path, cache):
    secret = secret_file(tmp_path)
    own = open_run(root, wait=True)
    name = next(cache.glob("*.duckdb")).name
    own.database.close()
    for place in (root / ".explorer", root):
        place.mkdir(exist_ok=True)
        for file in (name, "index.duckdb", f"index-{name.split('-')[1]}"):
            shipped = duckdb.connect(str(place / file))
            shipped.execute(f"CREATE VIEW examples AS SELECT 0 AS _row, * FROM read_parquet('{secret}')")
            shipped.close()
    before = {f: f.read_bytes() for f in root.rglob("*.duckdb")}
    run = open_run(root, wait=True)
    assert run.n == 12 and find_rows(run, Query(search="secret"))["total"] == 0
    assert {f: f.read_bytes() for f in root.rglob("*.duckdb")} == before


def test_opening_a_run_writes_nothing_into_it(root):
    before = {f: f.stat().st_mtime_ns for f in root.rglob("*")}
    open_run(root, wait=True).database.close()
    assert {f: f.stat().st_mtime_ns for f in root.rglob("*")} == before


@pytest.mark.parametrize(
    "name",
    [
        "scores/examples.parquet",
        "scores/tokens/train-00000.parquet",
        "records/train.parquet",
        "spans/steps.parquet",
        "results/tables/effects.parquet",
        "queries/queries.parquet",
        "report.html",
        "recipe.json",
        "a/deep/file",
    ],
)
def test_a_file_that_is_a_link_out_of_the_folder_is_refused(root, tmp_path, name):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.symlink_to(secret_file(tmp_path))
    with pytest.raises(ArtifactError, match=r"leads out of the run folder .*remove the link"):
        open_run(root)


def test_a_folder_that_is_a_link_out_is_refused_and_nothing_is_deleted_through_it(root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "index-0000000000000000.duckdb").write_text("precious")
    for name in (".explorer", "sft", "records-old"):
        link = root / name
        link.symlink_to(outside, target_is_directory=True)
        with pytest.raises(ArtifactError, match="leads out of the run folder"):
            open_run(root)
        link.unlink()
    assert (outside / "index-0000000000000000.duckdb").read_text() == "precious"


def test_links_that_stay_inside_and_a_run_that_is_itself_a_link_are_fine(root, tmp_path):
    (root / "again.html").symlink_to(root / "report.html")
    (tmp_path / "linked").symlink_to(root, target_is_directory=True)
    assert open_run(tmp_path / "linked", wait=True).n == 12
    (root / "circle").symlink_to(root / "circle")
    with pytest.raises(ArtifactError, match="circle"):
        open_run(root)


def test_a_report_that_becomes_a_link_later_is_not_served(root, tmp_path):
    web = TestClient(build_app(open_run(root, wait=True)), base_url="http://localhost")
    assert web.get("/report").status_code == 200
    (tmp_path / "secret.html").write_text("secret")
    (root / "report.html").unlink()
    (root / "report.html").symlink_to(tmp_path / "secret.html")
    answer = web.get("/report")
    assert answer.status_code == 400 and answer.text.startswith(str(root)) and "leads out" in answer.text


def test_the_database_reads_the_run_folder_and_nothing_else(root, tmp_path):
    secret = secret_file(tmp_path)
    con = locked(duckdb.connect(":memory:"), root)
    assert con.execute(
        "SELECT count(*) FROM read_parquet(?)", [str(root / "scores" / "examples.parquet")]
    ).fetchone() == (12,)
    (root / "way").symlink_to(secret)
    for file in (
        str(secret),
        str(root / "way"),
        f"{root}/../secret.parquet",
        "/etc/passwd",
        "http://127.0.0.1:9/x.parquet",
    ):
        with pytest.raises(duckdb.Error):
            con.execute("SELECT * FROM read_parquet(?)", [file]).fetchall()
    for command in (
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'x.duckdb'}'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(command)


def test_a_cache_that_cannot_be_written_leaves_the_index_in_memory(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INFRA_CACHE", str(tmp_path / "file"))
    assert find_rows(open_run(root, wait=True), Query(search="marbles"))["total"] == 11


def test_looking_at_a_run_fetches_no_model(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("org/somebodys-model", "gemma3-270m"):
        with pytest.raises(ArtifactError, match=f"infra fetch {name}"):
            here(name)


ODD = [
    "",
    " ",
    "0",
    "-1",
    "1.5",
    "abc",
    "NaN",
    "Infinity",
    "1e999",
    "9" * 30,
    "9" * 5000,
    "null",
    "true",
    "[]",
    "{}",
    "[" * 5000,
    '{"domain": null}',
    '{"domain": 5}',
    '{"domain": [null, [], {}]}',
    '{"domain": {"a": 1}}',
    '{"n_tokens": [1]}',
    '{"n_tokens": ["a", "b"]}',
    '{"n_tokens": [NaN, NaN]}',
    '{"n_tokens": [1e999, -1e999]}',
    '{"domain": [0, 1]}',
    '{"verified": [0, 1]}',
    '{"id": [0, 1]}',
    '{"": [1, 2]}',
    '{"_row": ["0"]}',
    '{"n_tokens": ["x"]}',
    '{"score_math": [1, 2]}',
    "'; DROP TABLE examples; --",
    '"',
    "\x00",
    "é\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    "%",
    "_row",
    "../../etc/passwd",
    "a" * 3000,
    " ".join(f"w{i}" for i in range(1000)),
    "math",
    "code",
    "q3",
    "domain",
    "n_tokens",
]
NAMES = [
    "search",
    "equals",
    "ranges",
    "sort",
    "way",
    "offset",
    "limit",
    "id",
    "target",
    "query",
    "of",
    "against",
    "run",
    "set",
    "format",
]
HEARD = {
    "run": [],
    "rows": ["search", "equals", "ranges", "sort", "way", "offset", "limit"],
    "facets": ["search", "equals", "ranges"],
    "histogram": ["of", "search", "equals", "ranges"],
    "export": ["search", "sort", "format"],
    "queries": ["search", "target", "offset"],
    "query": ["query"],
    "links": ["id"],
    "scale": ["target"],
    "tables": [],
    "compare": ["target", "against", "run", "set"],
    "example": ["id", "target", "query"],
}
"""The parameters that each endpoint reads."""


@pytest.mark.parametrize("endpoint", HEARD)
def test_no_parameter_of_any_endpoint_ends_in_a_server_error(client, endpoint):
    random.seed(0)
    heard = HEARD[endpoint]
    single = [{name: value} for name, value in itertools.product(heard, ODD)]
    several = [{name: random.choice(ODD) for name in NAMES} for _ in range(20)]
    for parameters in single + several:
        answer = client.get(f"/api/{endpoint}", params=parameters)
        assert answer.status_code in (200, 400), (parameters, answer.text[:300])
        if answer.status_code == 400:
            said = answer.json()["error"]
            assert said and "\n" not in said and "Traceback" not in said, parameters


def test_a_run_without_queries_answers_questions_about_them(root):
    for file in root.rglob("queries.parquet"):
        file.unlink()
    web = TestClient(build_app(open_run(root, wait=True)), base_url="http://localhost", raise_server_exceptions=False)
    assert web.get("/api/queries").json() == {"total": 0, "rows": []}
    assert web.get("/api/links", params={"id": "x"}).json() == []
    for answer in (
        web.get("/api/query", params={"query": "q"}),
        web.get("/api/example", params={"id": "x", "query": "q"}),
    ):
        assert answer.status_code == 400


def test_a_file_damaged_after_it_was_opened_is_an_answer_too(root):
    web = TestClient(build_app(open_run(root, wait=True)), base_url="http://localhost", raise_server_exceptions=False)
    for file in (*root.rglob("queries.parquet"), *root.rglob("results/tables/*.parquet")):
        file.write_bytes(b"PAR1 no more")
    for path in ("/api/queries", "/api/tables", "/api/query?query=q3"):
        answer = web.get(path)
        assert answer.status_code in (200, 400) and "Traceback" not in answer.text


def test_a_search_of_a_thousand_words_is_refused_at_once_and_the_longest_allowed_is_quick(tmp_path):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(2000)]
    write_run(tmp_path / "run", n=12)
    file = tmp_path / "run" / "scores" / "examples.parquet"
    frame = pd.concat([pd.read_parquet(file)] * 500, ignore_index=True)
    frame["id"] = [f"e{i}" for i in range(len(frame))]
    frame["preview"] = [" ".join(rng.choice(words, 60)) for _ in range(len(frame))]
    frame.to_parquet(file, index=False)
    for records in (tmp_path / "run" / "records").glob("*.parquet"):
        records.unlink()
    run = open_run(tmp_path / "run", wait=True)
    for ask in (lambda t: find_rows(run, Query(search=t)), lambda t: find_queries(run, t)):
        with pytest.raises(InputError, match=f"1000 words; give at most {MAX_WORDS}"):
            ask(" ".join(words[:1000]))
    began = time.monotonic()
    tracemalloc.start()
    assert find_rows(run, Query(search=" ".join(words[:MAX_WORDS])))["total"] == 0
    assert time.monotonic() - began < 5 and tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert find_rows(run, Query(search="w1 w2"))["total"] > 0
    with pytest.raises(InputError, match="accepts 5000 values"):
        find_rows(run, Query(equals={"domain": ["a"] * 5000}))


@pytest.mark.parametrize("value", ["-1", "1.5", "abc", "9" * 30, "٣", "1_0"])
def test_an_offset_that_is_no_row_number_is_refused(value):
    with pytest.raises(InputError, match="offset is"):
        parse_query({"offset": value})
    with pytest.raises(InputError, match="cannot be asked"):
        parse_query({"ranges": json.dumps({"n_tokens": [float("nan"), 1]})})
