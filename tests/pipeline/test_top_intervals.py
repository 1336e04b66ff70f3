"""The interval of one example's influence is that of a mean over query folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from infra.pipeline.effects import with_intervals


def folds(names, n=10):
    return pd.DataFrame({"fold": names, "target": [f.split("#")[0] for f in names], "n_queries": n})


def test_the_interval_is_the_t_interval_of_a_mean_over_folds():
    rng = np.random.default_rng(0)
    names = [f"math#{i}" for i in range(8)]
    values = rng.normal(size=(3, 8)).astype(np.float32)
    top = pd.DataFrame({"target": "math", "id": list("abc"), "influence": values.mean(axis=1)})
    found = with_intervals(top, {"a": 0, "b": 1, "c": 2}, values, folds(names), {"math": dict.fromkeys(names, 1 / 8)})
    half = stats.t.ppf(0.975, 7) * values.std(axis=1, ddof=1) / np.sqrt(8)
    np.testing.assert_allclose(found.high - found.influence, half, rtol=0.2)
    np.testing.assert_allclose(found.influence - found.low, found.high - found.influence, rtol=1e-5)


def test_a_target_of_one_fold_has_no_interval_and_rows_follow_their_id():
    names = ["math#0", "code#0", "code#1"]
    values = np.array([[1, 5, 7], [2, -9, -9]], np.float32)
    top = pd.DataFrame({"target": ["math", "code", "code"], "id": ["x", "y", "x"], "influence": [1.0, -9.0, 6.0]})
    weights = {"math": {"math#0": 1.0}, "code": {"code#0": 0.5, "code#1": 0.5}}
    found = with_intervals(top, {"x": 0, "y": 1}, values, folds(names), weights)
    assert np.isnan(found.low[0]) and np.isnan(found.high[0])
    assert found.high[1] == found.low[1] == -9.0  # both folds agree: surely negative
    assert found.low[2] < 6 < found.high[2]
