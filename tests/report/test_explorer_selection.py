"""A selection made in the explorer is the one that `infra select` makes, as files that hold the user's own rows."""

from __future__ import annotations

import io
import json
import zipfile

import pandas as pd
import pytest
from starlette.testclient import TestClient

from infra.errors import InputError
from infra.experiments.selection import SelectSettings, select_records, write_selection
from infra.report.explorer import open_run
from infra.report.explorer.app import build_app
from infra.report.explorer.selection import settings_from
from tests.experiments.selection.scored_run import scored_run

from .conftest import downloaded, serious, serving, until

ROWS = [
    {
        "id": f"u{i}",
        "prompt": f"What is {i} + {i}?",
        "response": f"It is {2 * i}." + " So." * (i % 5),
        "domain": d,
        "mine": [i],
    }
    for i, d in enumerate(["math", "code"] * 20)
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection")
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    run = scored_run(folder / "run", [{"path": folder / "train.jsonl"}], lambda r: float(r.id[1:]) - 9.5)
    texts = [f"{r['prompt']} {r['response']}" for r in ROWS]
    tokens = {"id": [r["id"] for r in ROWS], "text": texts, "starts": [[0]] * 40, "ends": [[len(t)] for t in texts]}
    run.token_file("train", 0).parent.mkdir()
    pd.DataFrame({**tokens, "mask": [[True]] * 40, "loss_math": [[0.5]] * 40}).to_parquet(run.token_file("train", 0))
    return run, open_run(folder / "run", wait=True)


@pytest.fixture(scope="module")
def client(scored):
    return TestClient(build_app(scored[1]), base_url="http://localhost")


def unpacked(content: bytes) -> dict[str, list[dict]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {
            n: [json.loads(line) for line in archive.read(n).decode().splitlines()]
            for n in archive.namelist()
            if n.endswith(".jsonl")
        }


def test_the_files_are_those_of_infra_select(client, scored, tmp_path):
    settings = {"keep": 0.6, "target": "math", "balance": True, "control": "length"}
    answer = client.post("/api/select", json={"settings": settings})
    assert answer.status_code == 200
    selected = select_records(scored[0], SelectSettings(**settings))
    files = write_selection(scored[0], selected, tmp_path)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        written = {f.relative_to(tmp_path).as_posix(): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
        assert {n: archive.read(n) for n in archive.namelist()} == written
    rows = unpacked(answer.content)
    assert files.control and len(rows["kept/train.jsonl"]) == len(rows["control/train.jsonl"]) == 24
    assert all(row in ROWS for row in rows["kept/train.jsonl"] + rows["control/train.jsonl"])
    assert json.loads(answer.headers["Selection"])["kept"]["records"] == 24


def test_only_what_the_list_shows_is_kept_where_that_is_asked(client):
    shown = {"search": "", "equals": json.dumps({"domain": ["code"]}), "ranges": json.dumps({"score_math": [0, None]})}
    answer = client.post("/api/select", json={"settings": {"drop_harmful": True}, "shown": shown})
    assert answer.status_code == 200, answer.text
    rows = unpacked(answer.content)
    assert [r["id"] for r in rows["kept/train.jsonl"]] == [r["id"] for i, r in enumerate(ROWS) if i > 9 and i % 2]
    fates = {r["id"]: r["why"] for r in rows["manifest.jsonl"]}
    assert fates["u12"] == "not among the records given" and len(fates) == len(ROWS)


def test_weights_and_messages(client):
    rows = unpacked(client.post("/api/select", json={"settings": {"weights": True}, "messages": True}).content)
    kept = pd.DataFrame(rows["kept/train.jsonl"])
    assert len(kept) == len(ROWS) and kept["weight"].is_monotonic_increasing and kept["weight"].nunique() > 5
    assert kept["messages"][3][0]["content"] == ROWS[3]["prompt"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"settings": {}}, "nothing to select by"),
        ({"settings": {"keep": "half"}}, "keep of a selection cannot be"),
        ({"settings": {"top": True}}, "top of a selection cannot be"),
        ({"settings": {"out": "/tmp/x"}}, "no setting 'out'"),
        ({"settings": []}, "settings of a selection"),
        ({"settings": {"keep": 0.5, "target": "none"}}, "none"),
        ({"settings": {"keep": 0.5}, "shown": {"equals": '{"nope": ["1"]}'}}, "no column 'nope'"),
        ([], "no object"),
    ],
)
def test_a_selection_that_makes_no_sense_is_told_so(client, sent, said):
    answer = client.post("/api/select", json=sent)
    assert answer.status_code == 400 and said in answer.json()["error"]


def test_a_page_elsewhere_cannot_ask_for_files_without_being_asked_itself(client):
    sent = json.dumps({"settings": {"keep": 0.5}})
    answer = client.post("/api/select", content=sent, headers={"content-type": "text/plain"})
    assert answer.status_code == 400 and "application/json" in answer.json()["error"]
    with pytest.raises(InputError, match="no setting"):
        settings_from({"seeds": 1})


def test_a_selection_becomes_a_file_in_the_browser(watch, scored, shots):
    with serving(build_app(scored[1])) as url:
        watched = watch(1280, "light", True)
        page = watched.page
        page.goto(url)
        page.check(".filters fieldset:has-text('domain') input[data-value=math]")
        until(page, "document.querySelector('.listing .count')?.textContent.startsWith('20 ')")
        page.get_by_role("button", name="Select…").click()
        assert page.input_value("[aria-label='What to keep']") == "shown"
        page.select_option("[aria-label='What to keep']", "top")
        page.fill("[aria-label='Number kept']", "7")
        page.select_option("[aria-label='Control']", "random")
        assert serious(page) == []
        file = downloaded(page, page.get_by_role("button", name="Make the files"))
        page.screenshot(path=shots / "explorer-select-1280-light.png")
        with open(file.path(), "rb") as handle:
            rows = unpacked(handle.read())
        math = [r["id"] for i, r in enumerate(ROWS) if i % 2 == 0]
        assert [r["id"] for r in rows["kept/train.jsonl"]] == math[-7:]
        assert len(rows["control/train.jsonl"]) == 7 and file.suggested_filename == "run-selected.zip"
        until(
            page, "document.querySelector('.select [role=status]')?.textContent.startsWith('7 of 40 records are kept')"
        )
        page.keyboard.press("Escape")
        assert page.locator("dialog.select").is_hidden()
        assert watched.complaints == [] and watched.outside(url) == []
