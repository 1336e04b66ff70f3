"""Magicoder OSS-Instruct-75K: code problems written from open-source snippets.

Example row (ise-uiuc/Magicoder-OSS-Instruct-75K)::

    {"lang": "python", "raw_index": 12, "index": 3, "seed": "def f(x): ...", "openai_fingerprint": "fp_...",
     "problem": "Write a function ...", "solution": "```python\\ndef f(x):\\n    return x\\n```"}
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, dialogue, known, optional_text, text


def convert(row: Raw) -> Draft:
    """Problem and solution; the language is an attribute, the seed snippet is not kept."""
    return Draft(
        dialogue(text(row, "problem"), text(row, "solution")),
        "code",
        attributes=known(
            language=optional_text(row, "lang"),
            raw_index=optional_text(row, "raw_index"),
        ),
    )


ADAPTERS = (
    Adapter(
        "magicoder-oss-instruct",
        frozenset({"lang", "seed", "problem", "solution"}),
        convert,
        aliases=("magicoder-oss-instruct-75k", "oss-instruct"),
        source="magicoder-oss-instruct",
        native_id="index",
        columns={
            "lang": "attribute language",
            "raw_index": "attribute raw_index",
            "index": "id",
            "seed": "not kept: the snippet that the problem was written from",
            "openai_fingerprint": "not kept",
            "problem": "question",
            "solution": "response",
        },
        published="ise-uiuc/Magicoder-OSS-Instruct-75K",
    ),
)
