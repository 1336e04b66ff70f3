"""Records tokenised in batches have the library's own ids and offsets, and their file gives them back as they were."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recipes import families

from infra.data import Message, Record, TokenizedExample, TokenizedFile, iter_tokenize, tokenizing, write_tokenized

SAMPLE = [
    "Let's check: 12+345 = 357.\n\n  So  we're done; x_1 ≤ √2 and α·β… ÄÖÜ naïve 漢字 １２ ² ½\r\n\t"
    "```python\ndef f(x):\n"
    "    return x**2 - 1  # ok\n```\n <think>\nWait, we'LL see — it’s 5×5=25</think>"
] * 3
PIECES = [
    "'s",
    "'ſ",
    "x",
    " the",
    "12",
    "  ",
    "\r\n",
    "é",
    "e\u0301",
    "漢",
    "\u2028",
    "😀",
    "<|im_",
    "İ",
    "ﬁ",
    "\u200b",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=25).map(
    lambda parts: "a" + "".join(parts) + "z"
)


def record(name: str, response: str) -> Record:
    return Record(name, (Message("user", f"Q {name}?"), Message("assistant", response)), "math", "s")


def same(a: TokenizedExample, b: TokenizedExample) -> bool:
    arrays = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("input_ids", "loss_mask", "offsets"))
    return arrays and (a.id, a.text, a.response_start, a.weight) == (b.id, b.text, b.response_start, b.weight)


@pytest.fixture(scope="module", params=["qwen2", "llama3"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return {"qwen2": families.qwen2_tokenizer, "llama3": families.llama3_tokenizer}[request.param](SAMPLE)


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(TEXTS, min_size=1, max_size=9))
def test_every_text_of_a_batch_has_the_ids_and_offsets_it_has_alone(tokenizer: Any, texts: list[str]) -> None:
    records = [record(f"r{i}", text) for i, text in enumerate(texts)]
    for example, one in zip(iter_tokenize(records, tokenizer, max_length=None), records, strict=True):
        [alone] = iter_tokenize([one], tokenizer, max_length=None)
        assert same(example, alone)
        assert example.input_ids.dtype == np.int64 and example.offsets.dtype == np.int32
        whole = tokenizer.backend_tokenizer.encode(example.text, add_special_tokens=False)
        if len(whole.ids) == len(example):  # no token lies across the border of prompt and response
            assert example.input_ids.tolist() == whole.ids
            assert [tuple(o) for o in example.offsets.tolist()] == whole.offsets


def test_batches_of_any_size_and_a_tokenizer_that_was_set_to_cut_give_the_same(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [record(f"r{i}", SAMPLE[0][: 20 + i]) for i in range(150)]
    plain = list(iter_tokenize(records, tokenizer, max_length=None))
    monkeypatch.setattr(tokenizing, "_BATCH", 7)
    cutting = copy.deepcopy(tokenizer)
    cutting.backend_tokenizer.enable_truncation(5)
    for other in (tokenizer, cutting):
        again = list(iter_tokenize(records, other, max_length=None))
        assert len(again) == len(plain) and all(map(same, plain, again))


def test_reading_is_lazy_and_ends_where_it_is_stopped(tokenizer: Any) -> None:
    seen = []

    def endless() -> Any:
        for i in count():
            seen.append(i)
            yield record(f"r{i}", "yes")

    stream = iter_tokenize(endless(), tokenizer, max_length=None)
    assert [next(stream).id for _ in range(3)] == ["r0", "r1", "r2"] and len(seen) <= 2 * tokenizing._BATCH


def test_a_file_gives_back_its_examples_whole_by_group_and_by_id(tokenizer: Any, tmp_path: Path) -> None:
    examples = list(iter_tokenize([record(f"r{i}", SAMPLE[0][: 9 + i]) for i in range(40)], tokenizer, max_length=None))
    weights = np.linspace(0, 1, len(examples[3]), dtype=np.float32)
    content = examples[3].loss_mask.copy()
    content[-1] = False
    examples[3] = replace(examples[3], weight=0.5, token_weights=weights, content_mask=content)
    write_tokenized(iter(examples), tmp_path / "x.parquet", 300, 1000)
    file = TokenizedFile.open(tmp_path / "x.parquet")
    assert len(file) > 3 and all(map(same, examples, file.stream())) and sum(file.examples) == 40
    found = file.select(["r3", "r39", "none"])
    assert list(found) == ["r3", "r39"] and np.array_equal(found["r3"].token_weights, weights)
    assert np.array_equal(found["r3"].content_mask, content) and found["r39"].token_weights is None


SCRIPT = """
import resource, sys
from pathlib import Path
from infra.data import Message, Record, TokenizedFile, iter_tokenize, write_tokenized
from infra.models import load_tokenizer
from infra.world import BASE_MODEL
n = int(sys.argv[2])
turns = ((Message("user", f"{i}?"), Message("assistant", f"{i} is 12. " * 40)) for i in range(n))
made = (Record(f"r{i}", t, "math", "s") for i, t in enumerate(turns))
write_tokenized(iter_tokenize(made, load_tokenizer(BASE_MODEL), max_length=None), Path(sys.argv[1]), 65536, 1000)
assert sum(1 for _ in TokenizedFile.open(Path(sys.argv[1])).stream()) == n
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path) -> None:
    """Peak resident memory of the whole job, in KiB, over 500 and over 4,000 records."""
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, str(tmp_path / f"{n}.parquet"), str(n)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for n in (500, 4000)
    )
    assert many < few + 60_000, (few, many)
