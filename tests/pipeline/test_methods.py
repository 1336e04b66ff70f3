"""Every method of the registry works in `infra score`, and in `infra run` where it follows the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from infra.errors import InputError
from infra.influence import MeanLogLikelihood
from infra.influence.methods import Engine, MethodContext, get_method
from infra.layout import Run
from infra.models import load_model, tracked_weights
from infra.pipeline.score import run_score, score_recipe, score_stages
from infra.pipeline.tokenized import tokens_of
from infra.store import read_json
from infra.world import BASE_MODEL, build_world
from tests.pipeline.test_score import settings, write

OWN = """
from dataclasses import dataclass

from infra.influence.methods import DirectionMethod


@dataclass(frozen=True)
class Negative(DirectionMethod):
    def directions(self, context):
        return [g * -1.0 for g in context.gradients()]
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("files")
    train = [r for r in build_world().train if r.domain == "math"]
    return write(folder / "train.jsonl", train[:8], "messages"), write(
        folder / "queries.jsonl", train[8:16], "messages"
    )


def scored(files: tuple[str, str], out: Path, method: str) -> Run:
    run_score(score_recipe(*files, method=method, **settings()), out, None)
    return Run(out)


def expected(run: Run, method: str) -> np.ndarray:
    """The method on each fold, in this process and without the pipeline: ``[n, F]``."""
    model, _ = load_model(BASE_MODEL, dtype="float32")
    folds = pd.read_parquet(run.folds)
    members = pd.read_parquet(run.query_folds).set_index("id")
    queries = tokens_of(run.tokenized_queries)
    names = [f"{r.target}:{r.difficulty}#{r.fold}" for r in members.loc[[q.id for q in queries]].itertuples()]
    by_fold = [[q for q, n in zip(queries, names) if n == fold] for fold in folds.fold]
    if not all(by_fold):  # another spelling of a fold's name: fall back on the order in which folds were made
        raise AssertionError(f"{set(names)} are not {set(folds.fold)}")
    targets = [MeanLogLikelihood(str(k), group) for k, group in enumerate(by_fold)]
    train = tokens_of(run.tokenized("train"))
    context = MethodContext(Engine(model, tracked_weights(model, "mlp")), train, targets)
    rows = {s.index: s.example for s in get_method(method).fit(context).scores(train, tokens=False)}
    return np.stack([rows[i] for i in range(len(train))])


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "method", ["bm25", "cosine", pytest.param("trak", marks=SLOW), pytest.param("gradient", marks=SLOW)]
)
def test_infra_score_gives_what_the_method_gives_alone(files: tuple[str, str], tmp_path: Path, method: str) -> None:
    run = scored(files, tmp_path / "run", method)
    found = np.load(run.fold_scores)
    assert found == pytest.approx(expected(run, method), rel=1e-3, abs=1e-4 * float(np.abs(found).max()))
    table = pq.read_table(run.token_file("train", 0)).to_pylist()
    weights = pd.read_parquet(run.example_scores).set_index("id")["score_math"]
    said = read_json(run.score_check)["spread_evenly"]
    assert said == (method == "bm25") and ("an equal share" in run.report.read_text(encoding="utf-8")) == said
    for row in table:  # tokens add up to their example, spread evenly where the method knows none
        size = float(np.abs(row["loss_math"]).sum())
        assert sum(row["loss_math"]) == pytest.approx(weights[row["id"]], rel=0, abs=1e-4 * size)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "length", "loss", "repsim", "kfac", "diagonal", "ekfac_cg", "trackstar"])
def test_the_other_methods_score_too(files: tuple[str, str], tmp_path: Path, method: str) -> None:
    run = scored(files, tmp_path / "run", method)
    assert np.isfinite(np.load(run.fold_scores)).all() and run.report.exists()


def test_a_method_of_ones_own_scores_from_its_file(files: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = scored(files, tmp_path / "own", f"{tmp_path / 'own.py'}:Negative")
    found = np.load(own.fold_scores)
    assert found == pytest.approx(-expected(own, "gradient"), rel=1e-3, abs=1e-4 * float(np.abs(found).max()))


def test_what_cannot_work_is_refused_before_anything_starts(files: tuple[str, str]) -> None:
    for method, said in (("magic", "unknown method 'magic'"), ("unrolled", "scores? trains nothing|trains nothing")):
        with pytest.raises(InputError, match=said):
            score_stages(score_recipe(*files, method=method, **settings()), None)
