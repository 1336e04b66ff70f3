"""Do the two definitions of a step's influence, `mask` and `delete`, say the same?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from infra.analysis.statistics import Floats
from infra.errors import InputError

DEFINITION_COLUMNS = (
    "target",
    "domain",
    "n_steps",
    "n_examples",
    "rho",
    "low",
    "high",
    "rho_within",
    "rho_per_token",
    "same_sign",
)


def definition_agreement(
    steps: pd.DataFrame, targets: Sequence[str], *, n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Rank agreement of ``mask_<target>`` and ``delete_<target>`` over steps, per target and domain.

    ``steps`` has one row per step with ``id`` (the example's), ``domain``, ``n_tokens`` and the two columns of each
    target. ``rho`` is Spearman's over all steps, with a percentile interval from resampled examples; ``rho_within``
    its mean over examples of at least three steps, where long or good examples cannot help; ``rho_per_token`` that of
    influence per token, where long steps cannot; ``same_sign`` the share of steps with one sign. Domain ``all``
    pools the domains where there are several.

    Raises:
        InputError: a missing column.
    """
    names = ["id", "domain", "n_tokens", *(f"{kind}_{t}" for t in targets for kind in ("mask", "delete"))]
    missing = [c for c in names if c not in steps.columns]
    if missing:
        raise InputError(f"the table of steps lacks the column(s) {missing}; it has {list(steps.columns)}.")
    domains = sorted(set(steps["domain"].astype(str)))
    rows: list[dict[str, Any]] = []
    for target in targets:
        for domain in (["all"] if len(domains) > 1 else []) + domains:
            mine = steps if domain == "all" else steps[steps["domain"].astype(str) == domain]
            if len(mine) < 3:
                continue
            pair = mine[[f"mask_{target}", f"delete_{target}"]].to_numpy(dtype=np.float64)
            cluster = pd.factorize(mine["id"])[0]
            members = [np.flatnonzero(cluster == c) for c in range(int(cluster.max()) + 1)]
            rng = np.random.default_rng([seed, 8])
            draws = []
            for _ in range(n_boot):
                picked = rng.integers(0, len(members), len(members))
                draws.append(_rho(pair[np.concatenate([members[c] for c in picked])]))
            low, high = np.nanpercentile(draws, [2.5, 97.5]) if np.isfinite(draws).any() else (np.nan, np.nan)
            within = np.array([_rho(pair[m]) for m in members if len(m) >= 3])
            within = within[np.isfinite(within)]
            tokens = mine["n_tokens"].to_numpy(dtype=np.float64)
            some = tokens > 0
            rows.append(
                {
                    "target": target,
                    "domain": domain,
                    "n_steps": len(mine),
                    "n_examples": len(members),
                    "rho": _rho(pair),
                    "low": low,
                    "high": high,
                    "rho_within": float(within.mean()) if len(within) else np.nan,
                    "rho_per_token": _rho(pair[some] / tokens[some, None]),
                    "same_sign": float((np.sign(pair[:, 0]) == np.sign(pair[:, 1])).mean()),
                }
            )
    return pd.DataFrame(rows, columns=list(DEFINITION_COLUMNS))


def _rho(pair: Floats) -> float:
    """Spearman's correlation of two columns; NaN for fewer than three rows or a constant column."""
    if len(pair) < 3 or np.ptp(pair[:, 0]) == 0 or np.ptp(pair[:, 1]) == 0:
        return float("nan")
    ranks = stats.rankdata(pair, axis=0)
    return float(np.corrcoef(ranks.T)[0, 1])
