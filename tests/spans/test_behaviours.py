"""The rule labeller on traces written for these tests; its measured quality is in docs/results/step-labels.md."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.spans import LABELS, behaviours, cues, stated_answer, steps

COUNTING = """<think>
Okay, so the question asks for the number of students who play both sports. I'll use the inclusion-exclusion principle.
There are 30 students in total. First I need the number who play at least one sport. That's 30 - 4 = 26.
Then the overlap is 18 + 15 - 26 = 7.

Let me double-check: 18 - 7 = 11 only football, 15 - 7 = 8 only tennis, and 11 + 8 + 7 = 26. That matches.

Another way to see it: draw a Venn diagram. The regions would be 11, 7, 8 and 4, which sum to 30.
</think>
The answer is \\boxed{7}."""

SEQUENCE = """We want to compute f(10). Maybe we can guess the formula from small cases. Hmm, perhaps it is 2n-1? \
Then f(10) would be 19. Wait, that's not right, because f(3)=6. So f(n)=n(n+1)/2. Plugging in n = 10: 10*11/2 = 55. \
So f(10) is 55."""

PROGRAM = """<think>
We need to write a function that keeps only the even numbers of a list. The approach is to loop over the list once. \
A number is even when n % 2 == 0. First, I set up an empty list. Then, for each number, I append it if it is even. \
For [1, 2, 3] that gives [2]. Let me test it on [4, 5]: we get [4], as expected. \
We could also write it with a list comprehension.
</think>
```python
def evens(xs):
    return [x for x in xs if x % 2 == 0]
```
"""

EQUATION = """To solve the equation, isolate x. Subtract 3 from both sides. That leaves 2x = 8. \
Dividing by 2 gives x = 4. Check: 2(4) + 3 = 11, which is right. Therefore x = 4."""


def labels(text: str, **more: str) -> list[str]:
    return ["+".join(row) for row in behaviours(text, steps(text), **more)]


def test_a_trace_with_a_plan_a_check_and_an_alternative() -> None:
    assert labels(COUNTING) == [
        "fact",
        "plan",
        "fact",
        "subgoal",
        "computation",
        "computation",
        "verification",
        "verification",
        "exploration_after_answer",
        "exploration_after_answer",
        "final_answer",
    ]


def test_a_wrong_guess_is_explored_and_taken_back() -> None:
    found = labels(SEQUENCE)
    assert found[:4] == ["plan", "exploration", "exploration", "exploration"]
    assert "backtracking" in found[4] and found[5:] == ["computation", "computation", "final_answer"]


def test_a_program() -> None:
    assert labels(PROGRAM) == [
        "plan",
        "plan",
        "fact",
        "subgoal",
        "subgoal",
        "computation",
        "verification",
        "exploration_after_answer",
        "final_answer",
    ]


def test_an_equation() -> None:
    assert labels(EQUATION) == ["plan", "subgoal", "computation", "computation", "verification", "final_answer"]


def test_an_alternative_counts_as_after_the_answer_only_once_the_answer_is_reached() -> None:
    before = "The total is 3 + 4 = 7. Alternatively, double it first. Then 7 * 2 = 14. The answer is 14."
    after = "The total is 3 + 4 = 7. Alternatively, count them. The answer is 7."
    assert labels(before)[1] == "exploration" and labels(after)[1] == "exploration_after_answer"
    assert labels(after, answer="7")[1] == "exploration_after_answer"


def test_numbers_of_the_question_are_no_results() -> None:
    text = "Ann has 12 apples. The rest is 7. The answer is 7."
    assert labels(text, question="Ann has 12 apples and gives 5 away.")[:2] == ["fact", "computation"]


def test_bare_markup_has_no_behaviour() -> None:
    text = "<think>\nx = 1 + 1 = 2\n</think>\n\\boxed{2}"
    spans = [(0, 8), (8, 22), (22, 31), (31, len(text))]
    assert behaviours(text, spans) == [(), ("computation",), (), ("final_answer",)]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so <answer> 12 </answer> wait, the answer is 13", "12"),
        ("\\boxed{1} then \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("The answer is 4. No, the answer is 5.", "5"),
        ("Work.\n#### 1,234", "1,234"),
        ("nothing here", ""),
    ],
)
def test_the_answer_a_trace_states(text: str, answer: str) -> None:
    assert stated_answer(text) == answer


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=120), st.text(max_size=8))
def test_any_text_gets_known_labels_in_order_one_row_a_step(text: str, answer: str) -> None:
    spans = steps(text)
    rows = behaviours(text, spans, answer)
    assert len(rows) == len(spans)
    for row in rows:
        assert list(row) == [x for x in LABELS if x in row]
        assert not {"plan", "subgoal"} <= set(row) and not {"fact", "final_answer"} <= set(row)


CORPUS = [s for t in (COUNTING, SEQUENCE, PROGRAM, EQUATION) for s in t.lower().splitlines()] + [
    "but that can't be, so i undo it",
    "hold on",
    "oops, a typo",
    "it might be odd",
    "i forgot one instead of two",
    "this contradicts it",
    "no, start over",
    "great, it fits",
    "it checks out ✓",
    "actually, no",
    "#### 5",
    "the word is 'ab'",
    "that is too small",
    "what if n = 2",
    "suppose we try 3",
    "both ways agree",
    "is true now",
    "so both methods give 50",
]


@pytest.mark.parametrize("name", [n for n, v in vars(cues).items() if isinstance(v, cues.Cue) and v.triggers])
def test_triggers_never_hide_a_match(name: str) -> None:
    cue = getattr(cues, name)
    for line in CORPUS:
        assert cue(line) == (cue.pattern.search(line) is not None), line


@pytest.mark.parametrize(
    "unit", ["total ", "(", ".", "the answer is ", "<answer>", "wait ", "\\boxed{", "0", "first then ", "\\frac{"]
)
def test_long_and_hostile_traces_are_labelled_in_linear_time(unit: str) -> None:
    text = unit * (30_000 // len(unit))
    start = time.process_time()
    spans = steps(text)
    assert len(behaviours(text, spans)) == len(spans)
    assert behaviours(text, [(0, len(text))], answer="7", question=text)
    assert time.process_time() - start < 5


def test_labelling_is_fast_enough_for_every_trace() -> None:
    start = time.process_time()
    for _ in range(25):
        for text in (COUNTING, SEQUENCE, PROGRAM, EQUATION):
            behaviours(text, steps(text))
    assert 100 / (time.process_time() - start) > 500, "under 500 traces a second on one core"
