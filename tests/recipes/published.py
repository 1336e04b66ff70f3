"""A few hundred rows in the exact public schemas of the recipes' data sets and benchmarks, made from sums.

The texts are ours. What a small model can learn is that code answers echo their input: so some code problems are
solved, and a target has verified responses.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SYSTEM = (
    "Think first, then answer. Write <|begin_of_thought|> {thoughts} <|end_of_thought|> and then "
    "<|begin_of_solution|> {answer} <|end_of_solution|>."
)
ECHO = "```python\nprint(input())\n```"
THINGS = ("line", "word", "name", "number", "letter", "colour", "city", "code", "date", "tag")


def sum_text(rng: random.Random, terms: int) -> tuple[str, str, str]:
    """A question with so many terms, the worked sum and the answer."""
    numbers = [rng.randint(2, 99) for _ in range(terms)]
    total, steps = numbers[0], []
    for n in numbers[1:]:
        steps.append(f"{total}+{n}={total + n}")
        total += n
    asked = " and ".join(f"{n} {rng.choice(THINGS)}s" for n in numbers)
    return f"Box {rng.randint(100, 999)} holds {asked}. How many is that?", ". ".join(steps), str(total)


def echo_text(rng: random.Random, terms: int) -> str:
    """A programming problem whose whole solution is to print what was read."""
    return f"Case {rng.randint(1000, 9999)}: read one {' or '.join(rng.sample(THINGS, terms))} and print it as it is."


def trace(thought: str, solution: str) -> str:
    """A response with Bespoke-Stratos's markers."""
    return (
        f"<|begin_of_thought|>\n\n{thought}\n\n<|end_of_thought|>\n\n"
        f"<|begin_of_solution|>\n\n{solution}\n\n<|end_of_solution|>"
    )


def stratos(n: int, seed: int) -> list[dict[str, Any]]:
    """Bespoke-Stratos-17k, and OpenThoughts-114k's default subset: half sums, half echoes."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        terms = rng.randint(2, 6)
        if i % 2 == 0:
            asked, steps, answer = sum_text(rng, terms)
            question = f"Return your final response within \\boxed{{}}. {asked}"
            # about as long whatever the terms: where length follows difficulty, no flip is token-matched
            checks = " Check it." * (4 * (6 - terms) + rng.randint(0, 3))
            reply = trace(f"{steps}. Wait, check it again.{checks} It is {answer}.", f"\\boxed{{{answer}}}")
        else:
            question = (
                "Generate an executable Python function generated from the given prompt. The function should take "
                f"stdin as input and print the output. Simply call the function after the definition. "
                f"{echo_text(rng, terms)}"
            )
            reply = trace("Print what is read." + " Check it." * rng.randint(0, 3), ECHO)
        turns = [{"from": "user", "value": question}, {"from": "assistant", "value": reply}]
        rows.append({"system": SYSTEM, "conversations": turns})
    return rows


def metamath(n: int, seed: int) -> list[dict[str, Any]]:
    """MetaMathQA."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        asked, steps, answer = sum_text(rng, rng.randint(2, 6))
        reply = f"{steps}.\n#### {answer}\nThe answer is: {answer}"
        rows.append({"type": "GSM_Rephrased", "query": asked, "original_question": asked, "response": reply})
    return rows


def oss_instruct(n: int, seed: int) -> list[dict[str, Any]]:
    """Magicoder OSS-Instruct-75K."""
    rng = random.Random(seed)
    return [
        {
            "lang": "python",
            "raw_index": 1000 + i,
            "index": i,
            "seed": "def f(x):",
            "openai_fingerprint": "fp_0",
            "problem": f"Write `same(x)` for a {' or '.join(rng.sample(THINGS, rng.randint(1, 5)))} {i}.",
            "solution": "```python\ndef same(x):\n    return x\n```\n" + "It gives x back. " * rng.randint(1, 4),
        }
        for i in range(n)
    ]


def gsm8k(n: int, seed: int) -> list[dict[str, Any]]:
    """GSM8K."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        asked, steps, answer = sum_text(rng, rng.randint(2, 5))
        lines = [f"{s.split('=')[0]}=<<{s}>>{s.split('=')[1]}." for s in steps.split(". ")]
        rows.append({"question": asked, "answer": "\n".join(lines) + f"\n#### {answer}"})
    return rows


def mbpp(n: int, seed: int) -> list[dict[str, Any]]:
    """MBPP, from task id 11 on."""
    rng = random.Random(seed)
    return [
        {
            "text": f"Write a function to give back the {rng.choice(THINGS)} number {i} unchanged.",
            "code": f"def same_{i}(x):\r\n    return x",
            "task_id": 11 + i,
            "test_setup_code": "",
            "test_list": [f"assert same_{i}({k}) == {k}" for k in range(3)],
            "challenge_test_list": [],
        }
        for i in range(n)
    ]


def math500(n: int, seed: int) -> list[dict[str, Any]]:
    """MATH-500."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        terms = rng.randint(2, 6)
        asked, steps, answer = sum_text(rng, terms)
        rows.append(
            {
                "problem": asked,
                "solution": f"{steps}. So $\\boxed{{{answer}}}$.",
                "answer": answer,
                "subject": "Prealgebra",
                "level": terms - 1,
                "unique_id": f"test/prealgebra/{i}.json",
            }
        )
    return rows


def aime24(seed: int) -> list[dict[str, Any]]:
    """AIME 2024 as HuggingFaceH4/aime_2024 has it: thirty problems."""
    rng = random.Random(seed)
    rows = []
    for i in range(30):
        asked, steps, answer = sum_text(rng, 4)
        link = f"https://artofproblemsolving.com/wiki/index.php/2024_AIME_{'I' * (1 + i // 15)}_Problems/Problem_"
        rows.append(
            {
                "id": 60 + i,
                "problem": asked,
                "solution": f"{steps}. \\boxed{{{answer}}}",
                "answer": answer.zfill(3),
                "url": f"{link}{1 + i % 15}",
                "year": "2024",
            }
        )
    return rows


def aime25(seed: int) -> list[dict[str, Any]]:
    """AIME 2025 as math-ai/aime25 has it."""
    rng = random.Random(seed)
    asked = [sum_text(rng, 4) for _ in range(30)]
    return [{"problem": question, "answer": answer, "id": str(i)} for i, (question, _, answer) in enumerate(asked)]


def livecodebench(n: int, seed: int) -> list[dict[str, Any]]:
    """LiveCodeBench code generation (lite), read from standard input."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        cases = [{"input": f"{w}\n", "output": f"{w}\n", "testtype": "stdin"} for w in rng.sample(THINGS, 3)]
        rows.append(
            {
                "question_title": f"Echo {i}",
                "question_content": echo_text(rng, 2),
                "platform": "atcoder",
                "question_id": f"abc{i}_a",
                "contest_id": f"abc{i}",
                "contest_date": "2023-08-21T00:00:00",
                "starter_code": "",
                "difficulty": ("easy", "medium", "hard")[i % 3],
                "public_test_cases": json.dumps(cases[:1]),
                "private_test_cases": json.dumps(cases[1:]),
                "metadata": "{}",
            }
        )
    return rows


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """The rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
