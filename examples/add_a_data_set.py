"""Add a data set's schema: a function from a row to a draft, and an ``Adapter``. Commands take it by its place:

    infra data train.jsonl --schema examples/add_a_data_set.py:QUIZ

or in a recipe ``data: {sources: [{path: train.jsonl, schema: add_a_data_set.py:QUIZ}]}``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from infra.data import Record, read_records
from infra.data.adapters import Adapter
from infra.data.fields import Draft, Raw, dialogue, known, text


def convert(row: Raw) -> Draft:
    """Example row: {"ask": "What is 2 + 3?", "reply": "2 + 3 = 5", "final": "5", "stars": 1}"""
    return Draft(
        dialogue(text(row, "ask"), text(row, "reply")),
        "math",
        answer=text(row, "final"),
        attributes=known(difficulty=row.get("stars")),
    )


QUIZ = Adapter("quiz", frozenset({"ask", "reply", "final"}), convert, source="quiz")


def main() -> list[Record]:
    """Read a file of such rows, with the schema found by its place as a command finds it."""
    row = {"ask": "What is 2 + 3?", "reply": "2 + 3 = 5", "final": "5", "stars": 1}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        file.write_text(json.dumps(row) + "\n", encoding="utf-8")
        records = read_records(file, schema=f"{__file__}:QUIZ").records
    print(records[0])
    return records


if __name__ == "__main__":
    main()
