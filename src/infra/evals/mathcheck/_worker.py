"""A worker process of the math checker: one JSON line in (``[gold, answer]``), one JSON line out (the
outcome).
"""

from __future__ import annotations

import json
import logging
import resource
import sys

MEMORY = 4 << 30


def main() -> None:
    """Serve until standard input closes. The parent kills a worker that is late."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.set_int_max_str_digits(20_000)
    logging.disable(logging.CRITICAL)
    out = sys.stdout
    sys.stdout = sys.stderr
    from ._grade import grade

    grade("x + 1", "2 + x")  # loads everything
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        try:
            outcome = grade(gold, answer)
        except (Exception, RecursionError, MemoryError):
            outcome = "wrong"
        print(json.dumps(outcome), file=out, flush=True)
