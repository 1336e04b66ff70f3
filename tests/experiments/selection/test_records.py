"""Which records a selection keeps, against the scores themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from infra.errors import ArtifactError, InputError
from infra.experiments.selection import SelectSettings, select_records

from .scored_run import scored_run


def write(path: Path, n: int, domain: str = "math", start: int = 0) -> Path:
    """Rows whose id says their score; responses of 1 to 9 words."""
    rows = [
        {
            "id": f"{domain}-{i}",
            "prompt": f"{domain} question {i}",
            "response": " ".join(["w"] * (1 + (i * 7) % 9)),
            "domain": domain,
        }
        for i in range(start, start + n)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def number(record) -> float:
    """The score that the tests give a record: its number."""
    return float(record.id.rpartition("-")[2])


@pytest.fixture
def run(tmp_path: Path):
    sources = [
        {"path": write(tmp_path / "math.jsonl", 40)},
        {"path": write(tmp_path / "code.jsonl", 10, "code")},
        {"path": write(tmp_path / "more.jsonl", 20, "math", 100), "use": "pool"},
    ]
    return scored_run(tmp_path / "run", sources, number)


def kept(selected) -> set[str]:
    return set(selected.rows.id[selected.rows.kept])


def test_a_share_keeps_the_best_and_nothing_of_the_pool(run) -> None:
    selected = select_records(run, SelectSettings(keep=0.5))
    assert kept(selected) == {f"math-{i}" for i in range(15, 40)}
    assert selected.manifest["kept"]["records"] == 25 and selected.manifest["kept"]["by_domain"] == {"math": 25}


def test_a_number_keeps_that_many_and_says_each_rank(run) -> None:
    rows = select_records(run, SelectSettings(top=3)).rows.set_index("id")
    assert list(rows.index[rows.kept]) == ["math-37", "math-38", "math-39"]
    assert rows.why["math-39"] == "rank 1 of 50" and rows.why["math-0"].endswith("of 50, below the cut")


def test_balance_keeps_the_domains_shares(run) -> None:
    selected = select_records(run, SelectSettings(keep=0.5, balance=True))
    assert kept(selected) == {f"math-{i}" for i in range(20, 40)} | {f"code-{i}" for i in range(5, 10)}


def test_per_token_ranks_by_influence_a_token(run) -> None:
    selected = select_records(run, SelectSettings(top=5, by="per-token"))
    rows = selected.rows[selected.rows.set == "train"]
    exact = rows.id.map(lambda i: float(i.rpartition("-")[2])) / rows.n_response_tokens
    assert kept(selected) == set(rows.id[exact.rank(ascending=False) <= 5])


def test_only_a_score_below_zero_with_its_interval_is_harmful(tmp_path: Path) -> None:
    """The interval of a mean over folds, computed another way: by hand from the folds' own spread."""
    source = {"path": write(tmp_path / "math.jsonl", 40)}
    made = scored_run(tmp_path / "run", [source], lambda r: (number(r) - 20) / 20, noise=1.0, folds=8)
    rows = select_records(made, SelectSettings(drop_harmful=True)).rows
    folds = np.load(made.fold_scores).astype(np.float64)
    half = stats.t.ppf(0.975, 7) * folds.std(axis=1, ddof=1) / np.sqrt(8)
    clear = np.abs(folds.mean(axis=1) + half) > 0.25 * half  # the bootstrap's own error
    harmful = folds.mean(axis=1) + half < 0
    assert (rows.harmful.to_numpy() == harmful)[clear].all() and 0 < rows.harmful.sum() < (rows.score < 0).sum()
    assert not rows.kept[rows.harmful].any() and rows.kept[~rows.harmful].all()


def test_two_targets_are_balanced_and_one_can_be_named(tmp_path: Path) -> None:
    source = {"path": write(tmp_path / "math.jsonl", 20)}
    made = scored_run(tmp_path / "run", [source], number, targets=("math", "code"))
    assert kept(select_records(made, SelectSettings(top=2, target="code"))) == {"math-0", "math-1"}
    assert np.allclose(select_records(made, SelectSettings(top=2)).rows.score, 0, atol=0.05)
    with pytest.raises(InputError, match="unknown target 'physics'"):
        select_records(made, SelectSettings(top=2, target="physics"))


def test_percentiles_of_two_targets_are_averaged(tmp_path: Path) -> None:
    source = {"path": write(tmp_path / "math.jsonl", 20)}
    made = scored_run(tmp_path / "run", [source], number, targets=("math", "code"))
    rows = select_records(made, SelectSettings(top=2, by="percentile")).rows
    assert np.allclose(rows.score, 52.5)  # ranks i and 21 - i of 20


def test_the_pools_best_are_added(run) -> None:
    selected = select_records(run, SelectSettings(top=1, pool=2))
    assert kept(selected) == {"math-39", "math-118", "math-119"}
    with pytest.raises(InputError, match=r"20 scored pool records .* asks for 21"):
        select_records(run, SelectSettings(top=1, pool=21))


@pytest.mark.parametrize("control", ["random", "length"])
def test_the_control_has_as_many_records_of_each_domain(run, control: str) -> None:
    selected = select_records(run, SelectSettings(keep=0.5, balance=True, pool=5, control=control, seed=3))
    rows = selected.rows
    assert (
        rows[rows.kept]
        .groupby(["set", "domain"])
        .size()
        .equals(rows[rows.control_kept].groupby(["set", "domain"]).size())
    )
    assert set(rows.id[rows.kept]) != set(rows.id[rows.control_kept])
    if control == "length":
        words = rows.n_response_tokens
        assert abs(words[rows.kept].sum() - words[rows.control_kept].sum()) <= 0.03 * words[rows.set == "train"].sum()
    again = select_records(run, SelectSettings(keep=0.5, balance=True, pool=5, control=control, seed=3))
    assert again.rows.equals(rows)


def test_weights_grow_with_the_score_and_leave_the_loss_its_size(run) -> None:
    rows = select_records(run, SelectSettings(weights=True, control="random")).rows
    train = rows[rows.set == "train"]
    assert train.kept.all() and not rows.kept[rows.set == "pool"].any()
    assert train.weight[train.score.sort_values().index].is_monotonic_increasing
    for column in ("weight", "control_weight"):
        assert np.average(train[column], weights=train.n_response_tokens) == pytest.approx(1)
    assert np.corrcoef(train.weight, train.control_weight)[0, 1] < 0.9


def test_only_what_a_filter_leaves_may_be_kept(run) -> None:
    selected = select_records(run, SelectSettings(top=2), among=["math-3", "math-5", "math-4", "code-1"])
    assert kept(selected) == {"math-4", "math-5"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "nothing to select by"),
        ({"keep": 1.5}, "keep is 1.5"),
        ({"keep": 0.5, "top": 3}, "give one of them"),
        ({"weights": True, "top": 3}, "weights keep every"),
        ({"weights": True, "control": "length"}, "the control of weights is 'random'"),
        ({"keep": 1.0, "control": "random"}, "nothing is dropped"),
    ],
)
def test_settings_that_make_no_sense_are_refused(run, settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        select_records(run, SelectSettings(**settings))


def test_a_folder_without_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has no scores"):
        select_records(tmp_path, SelectSettings(keep=0.5))
