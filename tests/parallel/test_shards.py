"""Examples on disk in shards: the same examples, in order, whatever the cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import ArtifactError
from infra.parallel.shards import open_shards, write_shards
from tests.influence import toys


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 30), tokens=st.integers(1, 200), most=st.integers(1, 12))
def test_every_example_comes_back_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, n: int, tokens: int, most: int
) -> None:
    examples = toys.examples(n)
    shards = write_shards(iter(examples), tmp_path_factory.mktemp("cut") / "x.parquet", tokens)
    back = [e for shard in shards for e in shard]
    assert [e.id for e in back] == [e.id for e in examples]
    assert all(
        np.array_equal(a.input_ids, b.input_ids) and np.array_equal(a.loss_mask, b.loss_mask)
        for a, b in zip(examples, back)
    )
    assert sum(shards.tokens) == sum(map(len, examples)) and sum(shards.examples) == n
    parts = shards.sum_tasks(most)
    assert len(parts) <= most and sum(t.about["examples"] for t in parts) == n
    assert [t.about["shards"][0] for t in parts[1:]] == [t.about["shards"][1] for t in parts[:-1]]


def test_weights_offsets_and_odd_text_survive(tmp_path: Path) -> None:
    plain, odd = toys.examples(2)
    odd = replace(
        odd,
        text="a\ud800é𝒳",
        weight=0.25,
        token_weights=np.linspace(0, 1, len(odd), dtype=np.float32),
        response_start=2,
    )
    [[a, b]] = list(write_shards([plain, odd], tmp_path / "x.parquet"))
    assert a.token_weights is None and np.array_equal(b.token_weights, odd.token_weights)
    assert (b.text, b.weight, b.response_start) == ("a\ufffdé𝒳", 0.25, 2)
    assert b.offsets.dtype == np.int32 and b.offsets.shape == odd.offsets.shape


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    digest = write_shards(toys.examples(5), path).digest
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"x\.parquet"):
        open_shards(path, digest)
    path.write_bytes(content[:30])
    with pytest.raises(ArtifactError, match=r"x\.parquet"):
        open_shards(path)
