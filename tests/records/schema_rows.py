"""One row per published schema, field for field, in our own words."""

from __future__ import annotations

import json
from typing import Any

STRATOS_SYSTEM = "Explore first. <|begin_of_thought|> {thought} <|end_of_thought|> <|begin_of_solution|> {s}"
STRATOS_REPLY = (
    "<|begin_of_thought|>\n\nTwo and three.\n\n<|end_of_thought|>\n\n"
    "<|begin_of_solution|>\n\nThe sum is \\boxed{5}.\n\n<|end_of_solution|>"
)
PROGRAM = "a, b = map(int, input().split())\nprint(a + b)"
IO = {"inputs": ["2 3\n", "4 5\n"], "outputs": ["5\n", "9\n"]}
CALLS = {"fn_name": "add", "inputs": [[2, 3], ["a", "b"]], "outputs": [[5], ["ab"]]}

ROWS: dict[str, dict[str, Any]] = {
    "bespoke-stratos": {
        "system": STRATOS_SYSTEM,
        "conversations": [
            {"from": "user", "value": "Return your final response within \\boxed{}. What is 2 + 3?"},
            {"from": "assistant", "value": STRATOS_REPLY},
        ],
    },
    "openthoughts-metadata": {
        "problem": "Add two numbers.",
        "deepseek_reasoning": "Read both.",
        "deepseek_solution": "```python\nprint(5)\n```",
        "ground_truth_solution": PROGRAM,
        "domain": "code",
        "source": "taco",
        "test_cases": json.dumps(CALLS),
        "starter_code": "def add(a, b):\n    pass",
    },
    "openthoughts3": {
        "difficulty": 8,
        "source": "ai2-adapt-dev/openmath-2-math",
        "domain": "math",
        "conversations": [
            {"from": "human", "value": "What is 2 + 3?"},
            {"from": "gpt", "value": "<think>\n2, 3\n</think>\n\n\\boxed{5}"},
        ],
    },
    "openr1-math": {
        "problem": "What is 2 + 3?",
        "solution": "It is $5$.",
        "answer": "5",
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "olympiads",
        "uuid": "586fd646-0000",
        "is_reasoning_complete": [True, False, True],
        "generations": ["<think>6</think>\\boxed{6}", "<think>5", "<think>5</think>\\boxed{5}"],
        "correctness_math_verify": [False, True, True],
        "correctness_llama": None,
        "finish_reasons": None,
        "correctness_count": 2,
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
    },
    "numinamath-cot": {
        "source": "synthetic_math",
        "problem": "What is 2 + 3?",
        "solution": "We add: $\\boxed{5}$.",
        "messages": [
            {"role": "user", "content": "What is 2 + 3?"},
            {"role": "assistant", "content": "We add: $\\boxed{5}$."},
        ],
    },
    "metamathqa": {
        "type": "GSM_Rephrased",
        "query": "How much is 2 plus 3?",
        "original_question": "What is 2 + 3?",
        "response": "2 + 3 = 5.\n#### 5\nThe answer is: 5",
    },
    "magicoder-oss-instruct": {
        "lang": "python",
        "raw_index": 105533,
        "index": 7,
        "seed": "def f(x):",
        "openai_fingerprint": "fp_eeff13170a",
        "problem": "Write a function that adds.",
        "solution": "```python\ndef add(a, b):\n    return a + b\n```",
    },
    "s1k-1.1": {
        "solution": "128",
        "question": "How many?",
        "cot_type": "math",
        "source_type": "AI-MO/NuminaMath-CoT/aops_forum",
        "metadata": "{}",
        "gemini_thinking_trajectory": "g",
        "gemini_attempt": "g",
        "deepseek_thinking_trajectory": "Count them.",
        "deepseek_attempt": "There are \\boxed{128}.",
        "gemini_grade": "No",
        "gemini_grade_reason": "",
        "deepseek_grade": "Yes",
        "deepseek_grade_reason": "",
    },
    "limo": {"question": "What is 2 + 3?", "solution": "Okay. **5**", "answer": "5"},
    "acereason-math": {"problem": "What is 2 + 3?", "answer": "5"},
    "acereason-sft": {
        "category": "math",
        "source": "numina",
        "input": "What is 2 + 3?",
        "output": "<think>\n5\n</think>\n\\boxed{5}",
    },
    "deepmath": {
        "question": "What is 2 + 3?",
        "final_answer": "5",
        "difficulty": 6.5,
        "topic": "Mathematics -> Algebra",
        "r1_solution_1": "Okay, 5.\n</think>\n\n\\boxed{5}",
        "r1_solution_2": "b",
        "r1_solution_3": "c",
    },
    "taco": {
        "question": "Add two numbers.",
        "solutions": json.dumps([PROGRAM, "pass"]),
        "starter_code": "",
        "input_output": json.dumps(IO),
        "difficulty": "MEDIUM_HARD",
        "raw_tags": "['math']",
        "name": None,
        "source": "codeforces",
        "tags": "['Mathematics']",
        "skill_types": "[]",
        "url": "https://codeforces.com/problemset/problem/1/A",
        "Expected Auxiliary Space": None,
        "time_limit": "2 seconds",
        "date": None,
        "picture_num": "0",
        "memory_limit": "256 megabytes",
        "Expected Time Complexity": None,
    },
    "apps": {
        "problem_id": 0,
        "question": "Sum two numbers.",
        "solutions": json.dumps([PROGRAM]),
        "input_output": json.dumps(IO),
        "difficulty": "interview",
        "url": "https://codeforces.com/problemset/problem/1/A",
        "starter_code": "",
    },
    "math": {
        "problem": "What is $2 + 3$?",
        "level": "Level 3",
        "type": "Prealgebra",
        "solution": "It is $\\boxed{5}$.",
    },
    "gsm8k": {
        "question": "Ann has 1,000 clips and buys 2 packs of 100. How many?",
        "answer": "2 packs hold 2*100=<<2*100=200>>200 clips.\nShe has 1000+200=<<1000+200=1200>>1,200.\n#### 1,200",
    },
    "mbpp": {
        "text": "Write a function to add two numbers.",
        "code": "def add(a, b):\r\n  return a + b",
        "task_id": 7,
        "test_setup_code": "import math",
        "test_list": ["assert add(2, 3) == 5", "assert add(0, 0) == 0"],
        "challenge_test_list": [],
    },
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": 'def add(a, b):\n    """Add."""\n',
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n",
    },
    "aime": {
        "id": 60,
        "problem": "Find it.",
        "solution": "It is $\\boxed{204}$.",
        "answer": "204",
        "url": "https://artofproblemsolving.com/wiki/index.php/2024_AIME_I_Problems/Problem_11",
    },
    "aime-capitals": {"ID": "2024-I-4", "Problem": "Find it.", "Solution": "So.", "Answer": 116},
    "messages": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is $2 + 3$?"},
            {"role": "assistant", "content": "5"},
        ]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hello!"}]},
    "prompt/response": {"prompt": "Sort a list: def f(xs):", "response": "sorted(xs)"},
    "record": {
        "id": "r0123",
        "messages": [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "It is 5."}],
        "domain": "math",
        "source": "own",
        "answer": "5",
        "tests": None,
        "attributes": {"difficulty": 1, "family": "sum", "rate": 0.5, "hard": False, "none": None},
        "spans": [{"start": 0, "end": 8, "labels": ["computation", "final_answer"]}],
        "weight": 0.5,
    },
}

# schema -> (question, response, domain, answer, tests, some attributes), worked out by hand
EXPECTED: dict[str, tuple[str, str | None, str, str | None, Any, dict[str, Any]]] = {
    "bespoke-stratos": (
        "Return your final response within \\boxed{}. What is 2 + 3?", STRATOS_REPLY, "math", "5", None, {},
    ),
    "openthoughts-metadata": (
        "Add two numbers.\n\ndef add(a, b):\n    pass",
        "<think>\nRead both.\n</think>\n\n```python\nprint(5)\n```",
        "code",
        None,
        {
            "kind": "functional",
            "entry_point": "add",
            "cases": [{"input": "2\n3", "output": "5"}, {"input": '"a"\n"b"', "output": '"ab"'}],
        },
        {"origin": "taco"},
    ),
    "openthoughts3": (
        "What is 2 + 3?", "<think>\n2, 3\n</think>\n\n\\boxed{5}", "math", "5", None, {"difficulty": 8},
    ),
    "openr1-math": (
        "What is 2 + 3?", "<think>5</think>\\boxed{5}", "math", "5", None, {"verified": True, "n_generations": 3},
    ),
    "numinamath-cot": (
        "What is 2 + 3?", "We add: $\\boxed{5}$.", "math", "5", None, {"origin": "synthetic_math"},
    ),
    "metamathqa": (
        "How much is 2 plus 3?", "2 + 3 = 5.\n#### 5\nThe answer is: 5", "math", "5", None,
        {"origin": "gsm", "original_question": "What is 2 + 3?"},
    ),
    "magicoder-oss-instruct": (
        "Write a function that adds.", "```python\ndef add(a, b):\n    return a + b\n```", "code", None, None,
        {"language": "python"},
    ),
    "s1k-1.1": (
        "How many?", "<think>\nCount them.\n</think>\n\nThere are \\boxed{128}.", "math", "128", None,
        {"verified": True},
    ),
    "limo": ("What is 2 + 3?", "Okay. **5**", "math", "5", None, {}),
    "acereason-math": ("What is 2 + 3?", None, "math", "5", None, {}),
    "acereason-sft": ("What is 2 + 3?", "<think>\n5\n</think>\n\\boxed{5}", "math", "5", None, {"origin": "numina"}),
    "deepmath": (
        "What is 2 + 3?", "<think>\nOkay, 5.\n</think>\n\n\\boxed{5}", "math", "5", None,
        {"difficulty": 6, "level": 6.5},
    ),
    "taco": (
        "Add two numbers.", f"```python\n{PROGRAM}\n```", "code", None,
        {"kind": "stdin", "cases": [{"input": "2 3\n", "output": "5\n"}, {"input": "4 5\n", "output": "9\n"}]},
        {"difficulty": 3, "level": "MEDIUM_HARD", "n_solutions": 2},
    ),
    "apps": (
        "Sum two numbers.", f"```python\n{PROGRAM}\n```", "code", None,
        {"kind": "stdin", "cases": [{"input": "2 3\n", "output": "5\n"}, {"input": "4 5\n", "output": "9\n"}]},
        {"difficulty": 2, "level": "interview"},
    ),
    "math": (
        "What is $2 + 3$?", "It is $\\boxed{5}$.", "math", "5", None, {"difficulty": 3, "subject": "Prealgebra"},
    ),
    "gsm8k": (
        "Ann has 1,000 clips and buys 2 packs of 100. How many?",
        "2 packs hold 2*100=200 clips.\nShe has 1000+200=1,200.\n\\boxed{1200}",
        "math", "1200", None, {"n_steps": 2, "difficulty": 1},
    ),
    "mbpp": (
        "Write a function to add two numbers.\nYour code should pass this test:\nassert add(2, 3) == 5",
        "```python\ndef add(a, b):\n  return a + b\n```", "code", None,
        {
            "kind": "asserts",
            "setup": "import math",
            "asserts": ["assert add(2, 3) == 5", "assert add(0, 0) == 0"],
        },
        {"native_id": "7"},
    ),
    "humaneval": (
        'Complete this Python function.\n\n```python\ndef add(a, b):\n    """Add."""\n```',
        '```python\ndef add(a, b):\n    """Add."""\n    return a + b\n```', "code", None,
        {
            "kind": "program",
            "entry_point": "add",
            "code": "def check(candidate):\n    assert candidate(2, 3) == 5\n",
        },
        {"native_id": "HumanEval/0"},
    ),
    "aime": ("Find it.", "It is $\\boxed{204}$.", "math", "204", None, {"difficulty": 11, "native_id": "60"}),
    "aime-capitals": ("Find it.", "So.", "math", "116", None, {"difficulty": 4}),
    "messages": ("What is $2 + 3$?", "5", "math", None, None, {"domain_guessed": True}),
    "sharegpt": ("Hello", "Hello!", "other", None, None, {}),
    "prompt/response": ("Sort a list: def f(xs):", "sorted(xs)", "code", None, None, {}),
    "record": ("What is 2 + 3?", "It is 5.", "math", "5", None, {"difficulty": 1, "family": "sum", "none": None}),
}  # fmt: skip
