"""Every script in examples/ runs as its head says, and does what it claims."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from infra.influence import example_influence, gradient
from infra.influence.directions import Direction
from infra.influence.targets import MeanLogLikelihood
from infra.models import tracked_weights

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = {path.stem for path in EXAMPLES.glob("*.py")} - {"_world"}


@pytest.fixture(scope="module", autouse=True)
def on_the_path() -> Iterator[None]:
    """The examples' own folder is importable, as it is when one of them is run."""
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_no_example_is_without_a_test() -> None:
    tested = {
        "attribute_a_model",
        "token_scores",
        "add_a_method",
        "add_a_benchmark",
        "add_a_data_set",
        "select_and_train",
    }
    assert tested == SCRIPTS


def test_attributing_a_model_ranks_every_example_and_math_helps_math(capsys: pytest.CaptureFixture[str]) -> None:
    ranking = script("attribute_a_model").main()
    assert len(ranking) == 24 and [s for s, _ in ranking] == sorted((s for s, _ in ranking), reverse=True)
    assert "influence on math" in capsys.readouterr().out


def test_token_scores_are_a_map_that_a_notebook_shows() -> None:
    html = script("token_scores").main()._repr_html_()
    assert html.count("<bdi") > 20


def test_a_method_of_ones_own_is_found_by_its_place() -> None:
    """Against the same direction made by hand from the engine's gradient."""
    found = script("add_a_method").main()
    world = script("_world")
    model, tokenizer, train, correct = world.small_world()
    g = gradient(model, MeanLogLikelihood("all", world.tokens(correct, tokenizer)), tracked_weights(model, "mlp"))
    v = Direction({name: t.sign() for name, t in g.tensors.items()})
    expected = example_influence(model, world.tokens(train, tokenizer), [v])[:, 0]
    assert found == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-3 * float(np.abs(expected).max()))


def test_a_benchmark_of_ones_own_is_found_by_its_place() -> None:
    assert script("add_a_benchmark").main() == [True, False]


def test_a_data_set_of_ones_own_is_found_by_its_place() -> None:
    [record] = script("add_a_data_set").main()
    assert (record.question, record.response, record.answer) == ("What is 2 + 3?", "2 + 3 = 5", "5")
    assert record.attributes["difficulty"] == 1


def test_selecting_writes_a_file_that_trains_and_its_control(tmp_path: Path) -> None:
    """What is kept is the better half of each domain by the scores that lie in the run."""
    import pandas as pd

    from infra.data import read_records

    files = script("select_and_train").main(tmp_path)
    given = (tmp_path / "train.jsonl").read_text().splitlines()
    kept, control = ([line for line in f.read_text().splitlines()] for f in (files.kept[0], files.control[0]))
    assert set(kept) <= set(given) and set(control) <= set(given) and len(kept) == len(control) == 12
    scores = pd.read_parquet(tmp_path / "run" / "scores" / "examples.parquet").set_index("id")
    worth = (scores[["score_math", "score_code"]] / scores[["score_math", "score_code"]].std(ddof=0)).mean(axis=1)
    best = [worth[scores.domain == d].nlargest(6).index for d in ("math", "code")]
    assert {r.id for r in read_records(files.kept[0]).records} == {i for ids in best for i in ids}
