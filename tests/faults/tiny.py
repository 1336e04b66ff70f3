"""The smallest run that has every stage: files of a few dozen records, a model of one layer that the run trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


def rows() -> list[dict[str, Any]]:
    """Training records of this project's own schema: sums for math, one-line functions for code, five levels each."""
    out = []
    for i in range(60):
        level = 1 + i % 5
        numbers = [(7 * i + 3 * k) % 10 for k in range(level + 1)]
        total = " + ".join(map(str, numbers))
        work = f"{'. '.join(f'Add {n}' for n in numbers)}. Wait, let me check: {total} is {sum(numbers)}."
        out.append(("math", level, f"Sum {i}: {total}?", f"{work} Therefore \\boxed{{{sum(numbers)}}}"))
        body = "\n".join(f"    n = n + {n}" for n in numbers)
        program = f"```python\ndef f{i}(n):\n{body}\n    return n\n```"
        out.append(("code", level, f"Write f{i}(n): add {total}.", program))
    return [
        {
            "id": f"{domain}{i}",
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}],
            "domain": domain,
            "source": "tiny",
            "attributes": {"difficulty": level},
        }
        for i, (domain, level, asked, answer) in enumerate(out)
    ]


def recipe(**changes: Any) -> dict[str, Any]:
    """The recipe's settings; paths are relative to its folder."""
    return {
        "name": "tiny",
        "quick": True,
        "seeds": 1,
        "threads": 1,
        "data": {
            "max_length": 128,
            "sources": [{"path": "train.jsonl", "shares": {"pretrain": 0.3, "train": 0.35, "pool": 0.35}}],
        },
        "model": {
            "pretrain": {
                "vocab_size": 300,
                "hidden_size": 16,
                "intermediate_size": 32,
                "layers": 1,
                "heads": 2,
                "kv_heads": 1,
                "batch_size": 16,
            }
        },
        "tasks": [
            {"name": "gsm8k", "path": "math.jsonl", "target": "math"},
            {"name": "mbpp", "path": "code.jsonl", "target": "code"},
        ],
        "sft": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 16},
        "eval": {"max_new_tokens": 4, "instruct": False},
        "targets": {"folds": 2, "minimum": 2, "samples": 1},
        "scores": {"span_examples": 8},
        "effects": {"bootstrap": 20},
        "arms": {"names": ["flip", "same-difficulty-swap"], "fraction": 0.1, "token_matched": False},
        "report": {"examples": 3},
        **changes,
    }


def write_tiny(folder: Path, **changes: Any) -> Path:
    """Write the recipe and its files. Returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    math = [{"question": f"What is {i} + {i + 1} now?", "answer": f"Add them. #### {2 * i + 1}"} for i in range(10)]
    code = [
        {
            "task_id": 600 + i,
            "text": f"Write a function to add {i} to a number.",
            "code": f"def add{i}(n):\n    return n + {i}",
            "test_list": [f"assert add{i}(1) == {1 + i}"],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for i in range(10)
    ]
    for name, content in (("train", rows()), ("math", math), ("code", code)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe(**changes)))
    return path
