r"""Where the final answer of a response stands: boxes, thinking, tags, headings and sentences."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.evals.mathcheck._extract import final_answer

BOXES = [
    (r"\boxed{3} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"\boxed{3} and \boxed{4", None),
    (r"\boxed{}", None),
    (r"It is \boxed{5}. The answer is 6.", "5"),
    (r"\fbox{4} or so", "4"),
    # no braces
    (r"\boxed 7", "7"),
    (r"so \boxed 2.", "2"),
    (r"a $\boxed{1}$, finally $\boxed 9$.", "9"),
    (r"\boxed {2}", "2"),
    ("\\boxed\n{2}", "2"),
    (r"$x = \boxed -3$", "-3"),
    (r"$\boxed\frac{1}{2}$", r"\frac{1}{2}"),
    (r"it is \boxed\frac12 as said", r"\frac12"),
    (r"hence \boxed 1,234 apples", "1,234"),
    (r"the choice is \boxed B", "B"),
    (r"$\boxed Friday$", "Friday"),
    # spoken of
    (r"It is $\boxed{72}$. (As asked, I put my answer inside \boxed{}.)", "72"),
    (r"It is $\boxed{72}$. I used the \boxed{...} notation.", "72"),
    (r"It is \boxed{72}. Final result in \fbox format.", "72"),
    (r"It is \boxed{72}, given in a `\boxed{}`.", "72"),
    (r"It is \boxed{72}. The format was \boxed{\text{answer}} as requested.", "72"),
    (r"It is \boxed{72}, written with \boxed{your answer}.", "72"),
    (r"It is \boxed{72}; see the \boxed command.", "72"),
    (r"Put it in \boxed{}. The answer is 72.", "72"),
    # an empty box where the answer stands is the answer that was not given
    (r"It is \boxed{10}. Wait, that was the first day. For both it is \boxed{}.", None),
    (r"We have $x=\boxed{7}$ and not $\boxed{}$", None),
]
THINKING = [
    (r"<think>\boxed{1}</think>\fbox{2}", "2"),
    ("<think>\\boxed{71}, no.</think>\n\nThe final answer is **72**.", "72"),
    (r"<think>so \boxed{72} maybe, let me go on and on", None),
    ("<think>the answer is 72", None),
    (r"opened in the prompt, \boxed{3}</think>\boxed{4}", "4"),
    (r"opened in the prompt, \boxed{3}</think>", None),
    (r"<think>a <think> b \boxed{1}</think>\boxed{4}", "4"),
    (r"<think>a</think>\boxed{5}<think>b \boxed{6}</think> done", "5"),
    (r"\boxed{5}. Or? <think> let me see", None),
    (r"<thinking>\boxed{1}</thinking>\boxed{2}", "2"),
    (r"[THINK]\boxed{1}[/THINK]\boxed{2}", "2"),
    (r"<|begin_of_thought|>\boxed{1}<|end_of_thought|>\boxed{2}", "2"),
    (r"<|channel|>analysis<|message|>\boxed{1}<|end|><|start|>assistant<|channel|>final<|message|>\boxed{2}", "2"),
    (r"◁think▷\boxed{1}◁/think▷\boxed{2}", "2"),
    (r"I put it after the `<think>` part: \boxed{2}", "2"),
    (r"<think>\boxed{7}</think>I give up.", None),
    ("<think>#### 7</think>\nDone.", None),
]
SAID = [
    ("#### 72", "72"),
    ("<answer> 5 </answer>", "5"),
    ("<answer>The answer is 5.</answer>", "5"),
    ("<answer>3</answer> no, <answer>5</answer>", "5"),
    ("The answer is 12.", "12"),
    ("nothing", None),
    ("No idea.", None),
    ("I could not finish the last case, so I give no answer.", None),
    # prose after the value
    ("The answer is 72, altogether.", "72"),
    ("The answer is 12, which is 3*4.", "12"),
    ("The answer is 72; that is six dozen.", "72"),
    ("The answer is 1,234, which is even.", "1,234"),
    ("The answer is 72 because 8*9 = 72.", "72"),
    ("The answer is $\\frac{1}{2}$, since half of 1 is that.", "$\\frac{1}{2}$"),
    ("The answer is 72 (six dozen).", "72"),
    ("The answer is yes, because 5 is prime.", "yes"),
    ("The answer is $72, as computed.", "$72"),
    ("The answer is 72 — six dozen.", "72"),
    # values with commas, points and brackets of their own
    ("The answer is 3, 4, and 5.", "3, 4, and 5"),
    ("The answer is $3$ and $4$.", "$3$ and $4$"),
    ("The answer is x = 2, y = 3.", "x = 2, y = 3"),
    ("The answer is (3, 4).", "(3, 4)"),
    ("The answer is [1, 2).", "[1, 2)"),
    ("The answer is 3.5.", "3.5"),
    ("The answer is 10 (mod 7).", "10 (mod 7)"),
    ("The answer is 3 hours and 20 minutes.", "3 hours and 20 minutes"),
    # on the next line, as a heading
    ("Therefore, the final answer is:\n\\[\n73\n\\]", "\\[\n73\n\\]"),
    ("The answer is\n$$\n\\begin{pmatrix}1\\\\2\\end{pmatrix}\n$$", "$$\n\\begin{pmatrix}1\\\\2\\end{pmatrix}\n$$"),
    ("The answer is\n\n72", "72"),
    ("## Answer\n73", "73"),
    ("### Final Answer:\n\n$$73$$", "$$73$$"),
    ("**Answer**\n\n**73**", "73"),
    ("#### Final Answer\n73", "73"),
    ("Answer\n------\n73", "73"),
    ("**Final answer:** 73", "73"),
    ("#### Step 1: add\n4+5=9\n\nThe answer is 9.", "9"),
    # sentences about the answer
    ("The answer is 73. (The answer is an integer.)", "73"),
    ("The answer is 73. This answer is correct.", "73"),
    ("The answer is 5.\n\nI am sure that the answer is right: we checked 3 cases.", "5"),
    ("Final Answer: The final answer is $72$. I hope it is correct.", "$72$"),
    ("The answer is 8. The answer is given in square metres.", "8"),
    ("The answer is 8. So the answer is the same as before.", "8"),
    ("The answer is 8. This answer is consistent with all 3 conditions.", "8"),
    # other ways to say it
    ("The correct option is (C).", "(C)"),
    ("The answer to the question is 72 dollars.", "72 dollars"),
    ("The answer must be 72.", "72"),
    ("The answer, then, is 5.", "5"),
    ("The answer that we want is 5.", "5"),
    ("The answer (in metres) is 5.", "5"),
    ("The probability is therefore 1/2.", "1/2"),
    ("答案是 72", "72"),
    ("The answer is 72<|im_end|>", "72"),
    # nothing announces it, and there is nothing else
    ("72", "72"),
    ("**72**", "72"),
    ("So\n\\[\nx=5\n\\]", "x=5"),
    ("She sold 8 and 9.\nSo she has 72 left.", "72"),
    ("Thus 7 is not possible.", None),
    ("I did so 3 times.", None),
]


@pytest.mark.parametrize(("text", "answer"), [*BOXES, *THINKING, *SAID])
def test_the_answer_that_a_response_ends_on_is_found(text: str, answer: str | None) -> None:
    assert final_answer(text).answer == answer


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<think>\\boxed{1}", "cut off while thinking"),
        ("\\boxed{1", "never closed"),
        ("\\boxed{}", "empty"),
        ("hm", "no box"),
    ],
)
def test_a_missing_answer_says_why(text: str, why: str) -> None:
    assert why in final_answer(text).why


@given(st.text(alphabet="ab\\{}$ 1", max_size=40))
@settings(deadline=None)
def test_boxes_are_balanced(text: str) -> None:
    found = final_answer("\\boxed{" + text).answer
    if found is not None:
        plain = found.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
        assert plain.count("{") == plain.count("}")


PIECES = [
    "\\boxed{",
    "}",
    "{",
    "\\",
    "$",
    "The answer is ",
    "Answer",
    "\n",
    "##",
    "####",
    "**",
    "72",
    ", ",
    ". ",
    "(",
    ")",
]
PIECES += ["<think>", "</think>", "<answer>", "</answer>", "which", "\\[", "\\]", "\ud800", "é", "\\begin{", "\\end{"]


@given(st.lists(st.sampled_from(PIECES), max_size=30))
@settings(deadline=None)
def test_extraction_never_fails(parts: list[str]) -> None:
    found = final_answer("".join(parts))
    assert (found.answer is None) or found.answer.strip()


@pytest.mark.parametrize("piece", PIECES)
def test_long_responses_take_no_longer_than_their_length_allows(piece: str) -> None:
    began = time.process_time()
    final_answer(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 5
