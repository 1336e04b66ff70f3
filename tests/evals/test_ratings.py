"""Judge ratings: parsed, combined and compared as defined; agreement as in the published example."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.data import Message, Record
from infra.evals import interval_alpha, judge_difficulty, parse_rating
from infra.models.generation import Generation


def record(id: str) -> Record:
    return Record(id, (Message("user", f"Question {id}"), Message("assistant", "secret")), "math", "s")


def test_alpha_of_krippendorffs_own_example() -> None:
    """Four observers, twelve units, with gaps; he gives 0.849 on the interval scale."""
    rows = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
    columns = zip(*(row.split() for row in rows))
    units = [[float(v) for v in column if v != "."] for column in columns]
    assert interval_alpha(units) == pytest.approx(0.849, abs=5e-4)
    assert interval_alpha([[1, 1], [5, 5]]) == 1.0
    assert interval_alpha([[3, 3], [3, 3]]) is None
    assert interval_alpha([[3], []]) is None


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Hard.\nRating: 7", 7.0),
        ("**Rating:** 4.5/10", 4.5),
        ("I first thought rating: 3, but no.\nRating: 6", 6.0),
        ("Rating: 11", None),
        ("no idea", None),
    ],
)
def test_ratings_are_read(text: str, rating: float | None) -> None:
    assert parse_rating(text) == rating


class Judge:
    """Answers from a table and counts what it is asked."""

    identity = "judge"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def generate(self, prompts, sampling, seed, on_result=None, done=frozenset()):  # type: ignore[no-untyped-def]
        out = []
        for prompt in prompts:
            for index in range(sampling.n):
                if (prompt.id, index) in (done or ()):
                    continue
                self.asked.append(prompt.messages[0].content)
                answer = {"a": ["Rating: 2", "Rating: 3", "Rating: 4"], "b": ["?", "Rating: 9", "Rating: 8"]}.get(
                    prompt.id, ["?"] * 3
                )[index]
                generation = Generation(prompt.id, index, answer, 3, "stop")
                on_result(generation)
                out.append(generation)
        return out


def test_judging_takes_the_median_and_asks_once(tmp_path: Path) -> None:
    judge = Judge()
    records = [record("a"), record("b"), record("c")]
    labelled, ratings = judge_difficulty(records, judge, cache_file=tmp_path / "votes.jsonl")
    assert [dict(r.attributes) for r in labelled] == [
        {"difficulty_judge": 3.0, "difficulty_judge_votes": 3},
        {"difficulty_judge": 8.5, "difficulty_judge_votes": 2},
        {},
    ]
    assert ratings.unread == 4
    assert ratings.alpha is not None and ratings.alpha > 0.8
    assert all("Question" in q and "secret" not in q for q in judge.asked) and len(judge.asked) == 9
    again, _ = judge_difficulty(records, judge, cache_file=tmp_path / "votes.jsonl")
    assert again == labelled and len(judge.asked) == 9
