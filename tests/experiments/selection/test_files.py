"""A selection as files: the user's rows as they were, in their order, and an account of every row."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.data import read_records
from infra.data.llamafactory import llamafactory_entry
from infra.errors import ArtifactError, InputError
from infra.experiments.selection import SelectSettings, select_records, write_selection

from .scored_run import scored_run

ODD = {"nested": {"b": [1, 2.50, None], "a": "\u00fc \u2028"}, "big": 12345678901234567890, "tiny": 1e-7, "note": None}
"""Fields that Infra does not read and that must come out as they went in."""


def rows(n: int, form: str = "messages") -> list[dict]:
    """Rows of one of the common forms, each with fields of its own that Infra does not know."""
    out = []
    for i in range(n):
        asked, reply = f"What is {i} + {i}?", f"It is {2 * i}."
        body = {
            "messages": {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]},
            "sharegpt": {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": reply}]},
            "prompt": {"prompt": asked, "response": reply},
        }[form]
        out.append({"id": f"mine-{i}", **body, **ODD})
    return out


def write_lines(path: Path, found: list[dict]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in found))
    return path


def by_number(record) -> float:
    """What is asked about: later rows have higher scores."""
    return float(record.question.split()[2])


def select(run, out: Path, messages: bool = False, **settings):
    return write_selection(run, select_records(run, SelectSettings(**settings)), out, messages=messages)


@pytest.mark.parametrize("form", ["messages", "sharegpt", "prompt"])
@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "train.jsonl.gz"])
def test_json_rows_come_out_as_they_went_in(form: str, name: str, tmp_path: Path) -> None:
    given, path = rows(8, form), tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in given).encode()))
    elif name.endswith(".json"):
        path.write_text(json.dumps(given, indent=2))
    else:
        write_lines(path, given)
    files = select(scored_run(tmp_path / "run", [{"path": path}], by_number), tmp_path / "out", keep=0.5)
    assert [p.name for p in files.kept] == [name.removesuffix(".gz")]
    text = files.kept[0].read_text()
    found = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    assert found == given[4:]


def test_a_line_keeps_its_very_characters(tmp_path: Path) -> None:
    lines = [f'{{"id":"{i}",  "prompt": "What is {i} + 1?", "response": "\\u0041", "x": 1.50e+03}}' for i in range(4)]
    (tmp_path / "a.jsonl").write_bytes("\r\n".join(lines).encode())
    run = scored_run(tmp_path / "run", [{"path": tmp_path / "a.jsonl"}], by_number)
    files = select(run, tmp_path / "kept.jsonl.gz", top=2)
    assert gzip.decompress(files.kept[0].read_bytes()).decode().splitlines() == lines[2:]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_of_tables_come_out_as_they_went_in(separator: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tsv" if separator == "\t" else "a.csv")
    cells = [[f"What is {i} + 1?", f'say "{i}"{separator} or\nnot', "007", "1e-3", ""] for i in range(4)]
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, delimiter=separator)
        writer.writerows([["prompt", "response", "code", "level", "note"], *cells])
    run = scored_run(tmp_path / "run", [{"path": path}], by_number)
    [kept] = select(run, tmp_path / "out", top=2).kept
    with kept.open(newline="") as handle:
        assert list(csv.reader(handle, delimiter=separator))[1:] == cells[2:]
    [weighted] = select(run, tmp_path / "weighted", weights=True).kept
    with weighted.open(newline="") as handle:
        header, *found = csv.reader(handle, delimiter=separator)
    assert header[-1] == "weight" and [row[:-1] for row in found] == cells
    assert [r.weight for r in read_records(weighted).records] == [float(row[-1]) for row in found]


def test_parquet_keeps_types_and_metadata(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": [f"What is {i} + 1?" for i in range(6)],
            "response": pa.array([f"{i + 1}" for i in range(6)], pa.large_string()),
            "when": pa.array(range(6), pa.timestamp("ms")),
            "kind": pa.array(["a", "b"] * 3).dictionary_encode(),
        }
    ).replace_schema_metadata({"mine": "kept"})
    pq.write_table(table, tmp_path / "a.parquet")
    run = scored_run(tmp_path / "run", [{"path": tmp_path / "a.parquet"}], by_number)
    [kept] = select(run, tmp_path / "out", top=2).kept
    found = pq.read_table(kept)
    assert found.schema.equals(pq.read_table(tmp_path / "a.parquet").schema, check_metadata=True)
    assert found.to_pylist() == table.to_pylist()[4:]
    [weighted] = select(run, tmp_path / "weighted", weights=True).kept
    assert pq.read_table(weighted).drop_columns("weight").to_pylist() == table.to_pylist()


def test_weights_are_read_back_by_infra_and_nothing_else_changes(tmp_path: Path) -> None:
    given = rows(6)
    run = scored_run(tmp_path / "run", [{"path": write_lines(tmp_path / "a.jsonl", given)}], by_number)
    files = select(run, tmp_path / "out", weights=True, control="random")
    decided = select_records(run, SelectSettings(weights=True)).rows
    found = [json.loads(line) for line in files.kept[0].read_text().splitlines()]
    assert [{k: v for k, v in row.items() if k != "weight"} for row in found] == given
    assert [r.weight for r in read_records(files.kept[0]).records] == decided.weight.tolist()
    old = write_lines(tmp_path / "b.jsonl", [r | {"weight": 3} for r in given])
    again = scored_run(tmp_path / "again", [{"path": old}], by_number)
    [replaced] = select(again, tmp_path / "replaced", weights=True).kept
    assert [json.loads(line) for line in replaced.read_text().splitlines()] == found
    control = [r.weight for r in read_records(files.control[0]).records]
    assert control != decided.weight.tolist() and sorted(control)[0] > 0


def test_every_row_of_every_file_is_accounted_for(tmp_path: Path) -> None:
    """Two files, one of them packed; a bad line, a copy, and rows beyond the limit."""
    first = rows(6)
    lines = [*map(json.dumps, first[:3]), "{not json", *map(json.dumps, [*first[3:], first[0]])]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    more = [r | {"id": f"b{i}"} for i, r in enumerate(rows(9)[6:])]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in more).encode()))
    sources = [{"path": tmp_path / "a.jsonl"}, {"path": tmp_path / "b.jsonl.gz", "limit": 2}]
    files = select(scored_run(tmp_path / "run", sources, by_number), tmp_path / "out", top=3, control="random")
    told = [json.loads(line) for line in files.manifest.read_text().splitlines()]
    assert [(r["file"], r["line"]) for r in told] == [
        *(("a.jsonl", i) for i in range(1, 9)),
        *(("b.jsonl.gz", i) for i in range(1, 4)),
    ]
    assert [r["id"] for r in told if r["kept"]] == ["mine-5", "b0", "b1"]
    why = {(r["file"], r["line"]): r["why"] for r in told}
    assert why["a.jsonl", 4].startswith("a bad row: not JSON") and "below the cut" in why["a.jsonl", 1]
    assert why["b.jsonl.gz", 3] == "not read: beyond the source's limit"
    assert [p.name for p in files.kept] == ["a.jsonl", "b.jsonl"]
    assert sum(len(p.read_text().splitlines()) for p in files.control) == 3 == sum(r.get("control", 0) for r in told)
    [merged] = select(scored_run(tmp_path / "again", sources, by_number), tmp_path / "all.jsonl", top=3).kept
    assert [json.loads(line)["id"] for line in merged.read_text().splitlines()] == ["mine-5", "b0", "b1"]


def test_files_of_one_name_are_told_apart_without_ids(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        found = [{"prompt": f"What is {i + 4 * k} + 1?", "response": "yes"} for i in range(4)]
        write_lines(tmp_path / name / "train.jsonl", found)
    sources = [{"path": tmp_path / name / "train.jsonl"} for name in ("a", "b")]
    run = scored_run(tmp_path / "run", sources, by_number)
    assert select_records(run, SelectSettings(top=1)).rows.id.tolist()[4:6] == ["b/train.jsonl:1", "b/train.jsonl:2"]
    files = select(run, tmp_path / "out", keep=0.75)
    assert [p.name for p in files.kept] == ["train.jsonl", "2-train.jsonl"]
    assert [len(p.read_text().splitlines()) for p in files.kept] == [2, 4]


def test_rows_of_different_schemas_or_forms_do_not_fit_in_one_file(tmp_path: Path) -> None:
    a = write_lines(tmp_path / "a.jsonl", rows(4))
    b = write_lines(tmp_path / "b.jsonl", [r | {"id": f"b{i}"} for i, r in enumerate(rows(4, "prompt"))])
    run = scored_run(tmp_path / "run", [{"path": a}, {"path": b}], by_number)
    with pytest.raises(InputError, match="different schemas"):
        select(run, tmp_path / "one.jsonl", keep=1.0)
    with pytest.raises(InputError, match="ending of that form"):
        select(run, tmp_path / "one.parquet", keep=1.0)
    files = select(run, tmp_path / "one.jsonl", messages=True, keep=1.0)
    found = [json.loads(line) for line in files.kept[0].read_text().splitlines()]
    assert [set(row) for row in found] == [{"id", "messages"}] * 8


def test_a_source_that_changed_is_refused_and_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = write_lines(tmp_path / "data" / "a.jsonl", rows(4))
    run = scored_run(tmp_path / "run", [{"path": path}], by_number)
    with pytest.raises(InputError, match="is a file of the data itself"):
        select(run, path, top=1)
    folder = scored_run(tmp_path / "whole", [{"path": tmp_path / "data"}], by_number)
    with pytest.raises(InputError, match="lies in its folder"):
        select(folder, tmp_path / "data" / "out", top=1)
    write_lines(path, rows(5))
    with pytest.raises(InputError, match=r"a\.jsonl changed since it was scored"):
        select(run, tmp_path / "out", top=1)
    assert len(path.read_text().splitlines()) == 5


def test_a_run_that_does_not_know_its_rows_is_refused(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", [{"path": write_lines(tmp_path / "a.jsonl", rows(4))}], by_number)
    run.origins.unlink()
    with pytest.raises(ArtifactError, match="does not say where its records come from"):
        select(run, tmp_path / "out", top=1)


@pytest.mark.parametrize("form", ["messages", "sharegpt", "prompt"])
def test_datasets_loads_what_is_kept_and_llamafactory_is_told_its_columns(form: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    run = scored_run(tmp_path / "run", [{"path": write_lines(tmp_path / "a.jsonl", rows(6, form))}], by_number)
    files = select(run, tmp_path / "out", keep=0.5, control="random")
    loaded = datasets.load_dataset("json", data_files=str(files.kept[0]), split="train", cache_dir=str(tmp_path / "c"))
    declared = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert loaded["id"] == ["mine-3", "mine-4", "mine-5"] and set(declared) == {"a", "a_control"}
    assert set(declared["a"]["columns"].values()) <= set(loaded.column_names)
    assert declared["a_control"]["file_name"] == "control/a.jsonl"


def test_llamafactory_is_told_of_other_names_of_the_speakers(tmp_path: Path) -> None:
    turns = [{"from": "user", "value": "Q"}, {"from": "assistant", "value": "A"}]
    entry = llamafactory_entry(write_lines(tmp_path / "a.jsonl", [{"system": "S", "conversations": turns}]))
    assert entry is not None and entry["columns"] == {"messages": "conversations", "system": "system"}
    assert {entry["tags"][f"{name}_tag"] for name in ("role", "content", "user", "assistant")} == {
        *("from", "value", "user", "assistant")
    }
    assert llamafactory_entry(write_lines(tmp_path / "b.jsonl", [{"question": "Q", "answer": "a\n#### 5"}])) is None


def test_a_second_selection_takes_away_what_the_first_left(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run", [{"path": write_lines(tmp_path / "a.jsonl", rows(6))}], by_number)
    out = tmp_path / "out"
    [control] = select(run, out, keep=0.5, control="random").control
    (out / "mine.txt").write_text("of the user")
    select(run, out, top=1)
    assert not control.exists() and sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == [
        *("dataset_info.json", "kept/a.jsonl", "manifest.jsonl", "mine.txt", "selection.json")
    ]


@pytest.mark.parametrize("path", ["hf:org/name", "org/name"])
def test_rows_of_the_hub_are_written_as_lines_of_their_fields(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: rows(4))
    run = scored_run(tmp_path / "run", [{"path": path}], by_number)
    [kept] = select(run, tmp_path / "out", top=2).kept
    assert kept.name == "org-name.jsonl"
    assert [json.loads(line) for line in kept.read_text().splitlines()] == rows(4)[2:]


def test_data_without_files_is_written_as_messages(tmp_path: Path) -> None:
    """The embedded world: its records come from no file, as the step that made them says."""
    run = scored_run(tmp_path / "run", [{"path": write_lines(tmp_path / "a.jsonl", rows(4))}], by_number)
    manifest = run.step("records") / "manifest.json"
    stored = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(stored | {"config": {"data.world": "default", "data.sources": []}, "inputs": {}}))
    pd.read_parquet(run.origins).assign(line=0).to_parquet(run.origins, index=False)
    files = select(run, tmp_path / "out", top=2, control="random")
    assert [p.relative_to(tmp_path).as_posix() for p in (*files.kept, *files.control)] == [
        *("out/kept/train.jsonl", "out/control/train.jsonl")
    ]
    found = [json.loads(line) for line in files.kept[0].read_text().splitlines()]
    assert found == [{"id": r["id"], "messages": r["messages"]} for r in rows(4)[2:]]
    told = [json.loads(line) for line in files.manifest.read_text().splitlines()]
    assert [(r["id"], r["kept"]) for r in told] == [(f"mine-{i}", i >= 2) for i in range(4)]
