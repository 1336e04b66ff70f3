"""The parsers that meet users' files, each as a function of one wild input, with the good inputs to start from."""

from __future__ import annotations

import contextlib
import copy
import functools
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

from infra.data import Message, Record, read_records, records_from_table, records_to_table, tokenize
from infra.data.templates import CHATML
from infra.errors import InfraError
from infra.evals import get_task
from infra.evals.tasks.livecodebench import decode_tests
from infra.models.generation._cache import read_cache
from infra.pipeline.recipe import load_recipe
from infra.pipeline.runner import plan_table
from infra.pipeline.stage import Stage
from infra.store import MANIFEST, RunFolder
from tests.data.schema_rows import ROWS
from tests.fuzz.wild import altered, damaged, texts, values

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "infra"
RECIPES = tuple(p.read_bytes() for p in (*sorted((ROOT / "recipes").glob("*.yaml")), *PACKAGE.glob("world/*.yaml")))
PROBLEMS = json.loads((ROOT / "tests/evals/data/livecodebench_problems.json").read_text())
OWN = {
    "id": "r1",
    "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "an answer"}],
    "domain": "math",
    "source": "s",
    "answer": "5",
    "tests": None,
    "attributes": {"difficulty": 2, "level": "a"},
    "spans": [{"start": 0, "end": 2, "labels": ["plan"]}],
    "weight": 1.0,
}
CHAT = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, OWN["messages"][1]]}
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
TOOLS = {
    "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "content": "5", "tool_call_id": "c", "name": "add"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "5"}]},
    ],
    "tools": [{"name": "add"}],
}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "f"}'}]}
ALPACA = {"instruction": "q2", "input": "", "output": "a", "history": [["q1", "a1"]], "system": "s", "thinking": "t"}
PAIR = {"prompt": "What is 2 + 3?", "response": "5", "weight": 2}
ALL_ROWS = (*ROWS.values(), OWN, CHAT, TOOLS, SHAREGPT, ALPACA, {"prompt": "q", "responses": ["<think>", "5"]}, PAIR)


@dataclass(frozen=True)
class Target:
    """``make(folder)`` gives the parser; ``share`` of all inputs go to it."""

    name: str
    inputs: st.SearchStrategy[Any]
    make: Callable[[Path], Callable[[Any], object]]
    share: float


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def dump(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def recipe_bytes(folder: Path) -> Callable[[bytes], object]:
    return lambda data: load_recipe(write(folder / "recipe.yaml", data))


def recipe_values(folder: Path) -> Callable[[Any], object]:
    return lambda value: load_recipe(
        write(folder / "recipe.yaml", dump(value)), seeds=2, data={"limit": 5}
    )  # JSON is YAML


def rows(folder: Path) -> Callable[[tuple[Any, str]], object]:
    def parse(drawn: tuple[Any, str]) -> object:
        row, on_error = drawn
        path = write(folder / "rows.jsonl", dump(row) + b"\n")
        found = read_records(path, on_error=on_error).records  # type: ignore[arg-type]
        return records_from_table(records_to_table(found))

    return parse


def files(folder: Path) -> Callable[[tuple[bytes, str, str]], object]:
    def parse(drawn: tuple[bytes, str, str]) -> object:
        data, suffix, on_error = drawn
        found = read_records(write(folder / f"rows{suffix}", data), on_error=on_error)  # type: ignore[arg-type]
        return records_to_table(found.records)

    return parse


@functools.cache
def good_files() -> tuple[bytes, ...]:
    """Rows as JSON Lines, a JSON array, an object that holds them, a table, gzip of these, and Parquet."""
    some = [dict(ROWS[name]) for name in list(ROWS)[:4]]
    lines = b"".join(dump(row) + b"\n" for row in ALL_ROWS)
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"prompt": f"q{i}", "response": "a", "n": i} for i in range(20)]), table)
    array = dump([CHAT, CHAT, OWN])
    held = json.dumps({"version": 1.5, "info": {"a": []}, "data": [CHAT, TOOLS]}, indent=1).encode()
    cells = b'prompt,response,weight\r\n"q ""1""\n",a,0.5\r\nq2,b,\r\n'
    packed = [gzip.compress(whole) for whole in (lines, array, held, cells)]
    return (lines, dump(some), array, held, cells, *packed, table.getvalue())


MANIFEST_VALUE = {
    "stage": "a",
    "key": "0" * 64,
    "config": {"x": [1, 2.5, None]},
    "inputs": {"f": "00"},
    "outputs": {"o.txt": "11" * 32},
}
CACHE_LINE = {"key": "5f", "prompt_id": "r", "index": 0, "text": "t", "n_tokens": 4, "finish": "stop", "check": "00"}
RUNTIME = {"stage": "a", "seconds": 1.5, "peak_memory_bytes": 10}


def manifests(folder: Path) -> Callable[[bytes], object]:
    run = RunFolder(folder)
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a" / "o.txt").write_text("x")
    stages = [Stage("a", lambda context: None, (), {"x": 1}), Stage("b", lambda context: None, ("a",))]

    def parse(data: bytes) -> None:
        write(folder / "runtime.jsonl", data)
        run.runtimes()
        write(folder / "a" / MANIFEST, data)
        with contextlib.suppress(InfraError):
            read_cache(write(folder / "generations.jsonl", data + b"\n"))
        found = run.manifest("a")
        plan_table(stages, run)
        assert found is None or found.digest
        run.verify("a")

    return parse


@functools.cache
def good_livecodebench() -> tuple[Any, ...]:
    return tuple(PROBLEMS.values()) if isinstance(PROBLEMS, dict) else tuple(PROBLEMS)


def livecodebench(folder: Path) -> Callable[[tuple[Any, str]], object]:
    task = get_task("livecodebench")

    def parse(drawn: tuple[Any, str]) -> object:
        row, text = drawn
        with contextlib.suppress(InfraError):
            decode_tests(text, "row 1")
        found = task.load(write(folder / "test.jsonl", dump(row) + b"\n"), start="2023-01-01", end="2026-01-01")
        assert all(r.tests for r in found)
        return found

    return parse


def templates(folder: Path) -> Callable[[tuple[str, list[tuple[str, str]]]], object]:
    from infra.models import load_tokenizer
    from infra.world import BASE_MODEL

    tokenizer = load_tokenizer(str(BASE_MODEL))

    def parse(drawn: tuple[str, list[tuple[str, str]]]) -> object:
        template, turns = drawn
        record = Record("r1", tuple(Message(role, content) for role, content in turns), "math", "s")
        return tokenize([record], tokenizer, max_length=4096, template=template)

    return parse


PIECES = (
    "{% for message in messages %}",
    "{% endfor %}",
    "{{ message['content'] }}",
    "{{ message.content.strip() }}",
    "{{ bos_token }}",
    "{% if add_generation_prompt %}",
    "{% endif %}",
    "{% generation %}",
    "{% endgeneration %}",
    "<|im_end|>",
    "{{ 1 / 0 }}",
    "{{ raise_exception('no') }}",
    "{{ messages[9]['content'] }}",
    "{{ message + 1 }}",
    "{% set x = messages[0] %}",
    "{{ x.y.z }}",
    "{{ 'a' * 100 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ ''.__class__.__mro__ }}",
    "{% include 'x' %}",
    "{{ messages | tojson }}",
    "{{ strftime_now('%Y') }}",
    "{{ range(10**9) | list }}",
    "{% break %}",
    "{{ 'a' * 99999999999 }}",
)
MARKED = CHATML.replace("turn_end", "'<|im_end|>'")
TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
template_text = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.tuples(st.sampled_from(PIECES), st.integers(0, len(MARKED))).map(
        lambda p: MARKED[: p[1]] + p[0] + MARKED[p[1] :]
    ),
    st.sampled_from(PIECES).map(lambda piece: TURNS + piece),
    damaged((MARKED.encode(), TURNS.encode())).map(lambda b: b.decode("utf-8", "replace")),
    texts,
)
conversations = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), texts), min_size=1, max_size=4
).map(lambda turns: [("user", "What?"), *turns, ("assistant", "It is so.")])
on_errors = st.sampled_from(["raise", "skip"])
json_bytes = altered((MANIFEST_VALUE, MANIFEST_VALUE, CACHE_LINE, RUNTIME)).map(dump)

TARGETS = (
    Target("recipe bytes", damaged(RECIPES), recipe_bytes, 0.08),
    Target("recipe values", altered(tuple(yaml.safe_load(r) for r in RECIPES)), recipe_values, 0.12),
    Target("record rows", st.tuples(altered(copy.deepcopy(ALL_ROWS)), on_errors), rows, 0.3),
    Target(
        "record files",
        st.tuples(
            damaged(good_files()),
            st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz"]),
            on_errors,
        ),
        files,
        0.15,
    ),
    Target("manifests", st.one_of(json_bytes, values.map(dump), damaged((dump(MANIFEST_VALUE),))), manifests, 0.15),
    Target(
        "livecodebench rows",
        st.tuples(altered(good_livecodebench()), st.one_of(texts, values.map(lambda v: dump(v).decode()))),
        livecodebench,
        0.15,
    ),
    Target("chat templates", st.tuples(template_text, conversations), templates, 0.05),
)
