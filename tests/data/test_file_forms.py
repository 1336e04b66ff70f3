"""Files in other forms give the same records, and no small file takes the machine's memory."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import pickle
import resource
import zlib
from pathlib import Path
from typing import Any

import pytest

from infra.data import iter_records, read_records
from infra.errors import InputError
from infra.evals.tasks import livecodebench
from infra.evals.tasks.livecodebench import decode_tests

ROWS = [{"prompt": 'q, "1"\n', "response": "a\u20281"}, {"prompt": "q2", "response": "ä 😀"}]


def texts(path: Path, **options: Any) -> list[tuple[str, str | None]]:
    return [(r.question, r.response) for r in read_records(path, **options).records]


WANT = [(r["prompt"], r["response"]) for r in ROWS]


@pytest.mark.parametrize(
    "value",
    [
        {"data": ROWS},
        {"train": ROWS},
        {"version": "1.0", "n": 2, "data": ROWS},
        {"info": {"a": [1, 2], "data": 3}, "examples": ROWS},
        {"rows": ROWS, "more": [1, {"x": "]}"}]},
        {"test": [{"prompt": "no", "response": "no"}], "train": ROWS},
        {"train": ROWS, "test": [{"prompt": "no", "response": "no"}]},
        {"validation": ROWS},
    ],
)
@pytest.mark.parametrize("indent", [None, 0, 1, 4])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.jsonl"])
def test_an_object_that_holds_the_rows_is_read_however_printed(
    value: Any, indent: Any, name: str, tmp_path: Path
) -> None:
    if name == "a.jsonl" and (indent is None and next(iter(value)) in ("info", "test")):
        pytest.skip("one line of JSON Lines, whose rows stand behind other objects")
    body = json.dumps(value, indent=indent).encode()
    (tmp_path / name).write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    assert texts(tmp_path / name) == WANT


def test_the_split_chooses_among_an_objects_lists(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"train": ROWS, "test": ROWS[:1]}, indent=1))
    assert texts(tmp_path / "a.json", split="test") == WANT[:1]
    assert [r.id for r in read_records(tmp_path / "a.json").records] == ["a.json:1", "a.json:2"]


def test_single_objects_are_rows(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(ROWS[0], indent=2))
    (tmp_path / "two.json").write_text("\n".join(json.dumps(r, indent=2) for r in ROWS))
    (tmp_path / "lines.json").write_text("\n".join(json.dumps(r) for r in ROWS))
    assert texts(tmp_path / "one.json") == WANT[:1]
    assert texts(tmp_path / "two.json") == texts(tmp_path / "lines.json") == WANT


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{\n "data": [\n  {"prompt": "q", "response": "a"},\n', "element 2: not JSON, or the file breaks off"),
        ('{\n "data": [\n  {"prompt": "q", "response": "a"}\n  {"prompt"', "after element 1: ',' or ']' expected"),
        ('{\n "prompt": "q", "response": ', "element 1: not JSON, or the file breaks off"),
        ('{\n "prompt": "q",\n "response": "a"\n} x', "after element 1: not JSON"),
        ('{\n "data": []\n}', "no known schema has the fields found"),
    ],
)
def test_a_broken_document_says_where(body: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(body)
    with pytest.raises(InputError, match=words):
        read_records(tmp_path / "a.json")


def test_a_long_document_is_read_in_flat_memory(tmp_path: Path) -> None:
    """8 MB in 4,000 rows; at no time more than a few of them are there."""
    import tracemalloc

    row = json.dumps({"prompt": "q" * 1000, "response": "a" * 1000}, indent=1)
    with (tmp_path / "a.json").open("w") as out:
        out.write('{\n "data": [\n' + ",\n".join([row] * 4_000) + "]}")
    tracemalloc.start()
    assert sum(1 for _ in iter_records(tmp_path / "a.json")) == 4_000
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def table(rows: list[dict], separator: str = ",", **options: Any) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=separator, **options)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.csv", table(ROWS)),
        ("a.csv", b"\xef\xbb\xbf" + table(ROWS, lineterminator="\n", quoting=csv.QUOTE_ALL)),
        ("a.csv", table(ROWS, ";")),
        ("a.tsv", table(ROWS, "\t")),
        ("a.csv.gz", gzip.compress(table(ROWS), mtime=0)),
        ("a.tsv.gz", gzip.compress(table(ROWS, "\t"), mtime=0)),
    ],
)
def test_tables_are_read(name: str, body: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(body)
    assert texts(tmp_path / name) == WANT
    assert texts(tmp_path) == WANT  # in a folder too, unless it stands beside other files, which it describes
    (tmp_path / "b.jsonl").write_text(json.dumps(ROWS[1]) + "\n")
    assert texts(tmp_path) == WANT[1:]


def test_cells_hold_long_texts_numbers_and_conversations(tmp_path: Path) -> None:
    turns = json.dumps(
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x" * 300_000, "loss": True}]
    )
    rows = [
        {"messages": turns, "weight": "0.5", "answer": "5", "note": ""},
        {"messages": turns, "weight": "", "answer": "05", "note": "n"},
    ]
    (tmp_path / "a.csv").write_bytes(table(rows))
    first, second = read_records(tmp_path / "a.csv").records
    assert (first.weight, first.answer, second.weight, second.answer) == (0.5, "5", 1.0, "05")
    assert first.response == "x" * 300_000
    assert "note" not in first.attributes and second.attributes["note"] == "n"
    assert (first.id, second.id) == ("a.csv:2", "a.csv:3")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"prompt,response\nq,a\nq,a,b\n", r"line 3: 3 cells for 2 columns; quote"),
        (b"prompt,prompt\nq,a\n", "line 1: the columns need names that differ"),
        (b"prompt,\nq,a\n", "line 1: the columns need names"),
        (b"prompt,response\nq,\xff\n", "not UTF-8"),
        (b"prompt,response\nq,\n", "field 'response': missing"),
    ],
)
def test_a_bad_table_says_where(body: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(body)
    with pytest.raises(InputError, match=words):
        read_records(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz", "a.parquet.gz", "a.tsv.gz"])
@pytest.mark.parametrize("head", [b"", b'{"prompt": "q", "response": "', b"[{", b"PAR1", b"prompt,response\nq,"])
def test_a_gzip_bomb_is_refused_with_size_limit_and_option(
    name: str, head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_MAX_UNPACKED", str(1 << 20))
    (tmp_path / name).write_bytes(gzip.compress(head + b"a" * (64 << 20)))
    with pytest.raises(InputError) as error:
        read_records(tmp_path / name)
    message = str(error.value)
    if "INFRA_MAX_UNPACKED" not in message:  # what is no file of its kind is refused before the bomb is read
        assert ("not a Parquet file" in message and name == "a.parquet.gz") or ("not JSON" in message and b"," in head)
        return
    assert "65," in message or "compressed bytes unpack to more than the limit of 1,048,576" in message
    assert len(message.splitlines()) == 1


def test_the_limit_is_a_multiple_of_the_size_and_at_least_a_gibibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.data.bounded import unpacked_limit

    monkeypatch.delenv("INFRA_MAX_UNPACKED", raising=False)
    assert (unpacked_limit(10), unpacked_limit(1 << 30)) == (1 << 30, 100 << 30)
    monkeypatch.setenv("INFRA_MAX_UNPACKED", "many")
    with pytest.raises(InputError, match="INFRA_MAX_UNPACKED is 'many'; give a number of bytes"):
        unpacked_limit(1)


def test_an_endless_line_or_element_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.data.rows.MAX_ROW", 1 << 16)
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "q", "response": "' + b"a" * (1 << 17) + b'"}\n')
    with pytest.raises(InputError, match="line 1: the line is longer than 65,536 bytes"):
        read_records(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_bytes(b'[{"prompt": "q", "response": "' + b"a" * (1 << 18))
    with pytest.raises(InputError, match="element 1 is longer than 65,536 characters"):
        read_records(tmp_path / "a.json")


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


BOMBS = {
    "memo": b")r\xff\xff\xff\x7f.",
    "bytes": b"B\xff\xff\xff\x7f.",
    "bytes8": b"\x8e" + (1 << 31).to_bytes(8, "little") + b".",
    "bytearray8": b"\x96" + (1 << 31).to_bytes(8, "little") + b".",
    "unicode": b"X\xff\xff\xff\x7f.",
    "unicode8": b"\x8d" + (1 << 40).to_bytes(8, "little") + b".",
    "long": b"\x8b\xff\xff\xff\x7f.",
    "global": b"cos\nsystem\n(S'true'\ntR.",
    "stack": b"(" * 1000 + b".",
    "doubling": b"X\x01\x00\x00\x00a" + b"2" * 100 + b"\x86.",
    "nothing": b".",
    "number": pickle.dumps(5),
    "list": pickle.dumps(["a"]),
    "bytes of text": pickle.dumps(b"[]"),
    "two": b"X\x01\x00\x00\x00aX\x01\x00\x00\x00b.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_pickle_takes_no_memory(bomb: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"row 7: test cases cannot be decoded \("):
        decode_tests(packed(BOMBS[bomb]), "row 7")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kilobytes


def test_packed_tests_are_bounded_and_read_in_every_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [{"input": "1\n é", "output": "2" * 300, "testtype": "stdin"}]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert decode_tests(packed(pickle.dumps(json.dumps(cases), protocol)), "x") == cases
        assert decode_tests(packed(pickle.dumps(json.dumps(cases, ensure_ascii=False), protocol)), "x") == cases
    monkeypatch.setattr(livecodebench, "MAX_BYTES", 1 << 20)
    with pytest.raises(InputError, match=r"bytes unpack to more than the limit of 1,048,576"):
        decode_tests(packed(pickle.dumps("[" + " " * (2 << 20) + "]")), "x")
