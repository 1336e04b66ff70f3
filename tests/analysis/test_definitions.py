"""The two definitions of a step's influence, and the strongest of a stream."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from infra.analysis import Strongest, definition_agreement
from infra.errors import InputError


def steps(noise, seed=0, n=60):
    """Steps whose deletion costs what their tokens sum to, times noise; half of the examples are code."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(n), rng.integers(2, 9, n))
    mask = rng.normal(size=len(ids)) + 3 * rng.normal(size=n)[ids]
    return pd.DataFrame(
        {
            "id": [f"r{i}" for i in ids],
            "domain": np.where(ids % 2, "code", "math"),
            "n_tokens": rng.integers(1, 30, len(ids)),
            "mask_math": mask,
            "delete_math": mask + noise * rng.normal(size=len(ids)),
        }
    )


def test_equal_definitions_agree_and_independent_ones_do_not():
    same = definition_agreement(steps(0.0), ["math"], n_boot=50)
    assert same.domain.tolist() == ["all", "code", "math"]
    assert np.allclose(same[["rho", "low", "high", "rho_within", "rho_per_token", "same_sign"]], 1)
    table = steps(0.0)
    table["delete_math"] = np.random.default_rng(1).normal(size=len(table))
    apart = definition_agreement(table, ["math"], n_boot=200)
    assert (apart.low < 0).all() and (apart.high > 0).all() and (apart.rho_within.abs() < 0.3).all()


def test_numbers_are_those_of_scipy_and_examples_are_the_unit():
    table = steps(4.0)
    found = definition_agreement(table, ["math"], n_boot=300).iloc[0]
    assert found.rho == pytest.approx(stats.spearmanr(table.mask_math, table.delete_math).statistic)
    inside = [stats.spearmanr(g.mask_math, g.delete_math).statistic for _, g in table.groupby("id") if len(g) > 2]
    assert found.rho_within == pytest.approx(np.mean(inside))
    per_token = stats.spearmanr(table.mask_math / table.n_tokens, table.delete_math / table.n_tokens).statistic
    assert found.rho_per_token == pytest.approx(per_token)
    assert (found.n_steps, found.n_examples) == (len(table), 60)
    assert found.low < found.rho < found.high
    assert found.rho_within < found.rho  # good examples help the pooled one


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="delete_code"):
        definition_agreement(steps(0.0).assign(mask_code=0.0), ["code"])


@given(st.lists(st.lists(st.integers(-5, 5), max_size=7), max_size=6), st.integers(1, 4))
def test_the_strongest_of_a_stream_are_those_of_the_whole(pieces, k):
    kept = Strongest(k)
    for i, piece in enumerate(pieces):
        kept.add(np.array(piece, dtype=np.float64), lambda j, i=i: {"at": (i, j)})
    everything = [(float(v), (i, j)) for i, piece in enumerate(pieces) for j, v in enumerate(piece)]
    n = len(everything)
    top = sorted(everything, key=lambda x: (-x[0], x[1]))[: min(k, (n + 1) // 2)]
    bottom = sorted(everything, key=lambda x: (x[0], x[1]))[: min(k, n // 2)]
    expected = [("top", r, *x) for r, x in enumerate(top, 1)] + [("bottom", r, *x) for r, x in enumerate(bottom, 1)]
    table = kept.table()
    found = [] if table.empty else list(zip(table.side, table["rank"], table.influence, table["at"]))
    assert found == expected
