"""Draw the exam's traces, once, before any label: ``python draw_items.py DATA/math_cot.jsonl > items.jsonl``.

Problems are split into a development and a test half by hash, so no problem is in both. In each half, stratum
``uniform`` is 24 random traces; stratum ``cued`` is 36 random traces that contain a word of a list fixed here
beforehand, because checks, corrections and alternatives are rare in this data and a class under 15 cases counts for
nothing. At most two traces a problem and stratum, none twice. ``python draw_items.py DATA second items.jsonl`` draws
``test2``: more traces of the test half's problems, none of them drawn before, for the labeller that was changed after
``test`` had been opened. Only ids, offsets and hashes are stored, never the text. (The borders in items.jsonl were
redrawn while no labels existed; later changes to the splitter leave them as they are.)
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections import Counter

from infra.spans import steps

PER_STRATUM = {"uniform": 24, "cued": 36}
PER_STRATUM_SECOND = {"uniform": 20, "cued": 24}
CUE = re.compile(
    r"\b(?:check|verif\w*|confirm\w*|alternativ\w*|however|but|wait|mistake|another|instead|actually|try|maybe|wrong"
    r"|incorrect|suppose|assum\w*)\b",
    re.IGNORECASE,
)


def half(problem: str) -> str:
    """``dev`` or ``test``, by hash of the problem's id."""
    digest = hashlib.sha256(f"spans-exam-v1:{problem}".encode()).hexdigest()
    return "dev" if int(digest, 16) % 2 == 0 else "test"


def main(path: str, before: str | None = None) -> None:
    """Print one JSON line per drawn trace; with ``before``, the second test set, without the traces of that file."""
    with open(path, encoding="utf-8") as file:
        rows = [(line, json.loads(text)) for line, text in enumerate(file, 1)]
    seen: set[str] = set()
    halves, wanted_of = ("dev", "test"), PER_STRATUM
    if before is not None:
        with open(before, encoding="utf-8") as file:
            seen = {json.loads(text)["sha256"] for text in file}
        halves, wanted_of = ("test2",), PER_STRATUM_SECOND
    for name in halves:
        for stratum, wanted in wanted_of.items():
            rng = random.Random(f"spans-exam-v1:{name}:{stratum}")
            taken: Counter[str] = Counter()
            for line, row in rng.sample(rows, len(rows)):
                problem, response = row["unique_id"], row["response"]
                digest = hashlib.sha256(response.encode()).hexdigest()
                if half(problem) != name.rstrip("2") or digest in seen:
                    continue
                if taken[problem] == 2 or sum(taken.values()) == wanted:
                    continue
                if stratum == "cued" and not CUE.search(response):
                    continue
                taken[problem] += 1
                seen.add(digest)
                item = {
                    "line": line,
                    "problem": problem,
                    "sha256": digest,
                    "half": name,
                    "stratum": stratum,
                    "spans": steps(response),
                }
                print(json.dumps(item))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else None)
