"""Names that LiveCodeBench puts before every program: the usual modules, star-imported and by name.

The order matters, since later modules shadow earlier ones (``pow`` ends up as the builtin, ``datetime`` as
the module).
"""

from __future__ import annotations

STARRED = (
    "string",
    "re",
    "datetime",
    "collections",
    "heapq",
    "bisect",
    "copy",
    "math",
    "random",
    "statistics",
    "itertools",
    "functools",
    "operator",
    "io",
    "sys",
    "json",
    "builtins",
    "typing",
)
RECURSION_LIMIT = 50_000

PRELUDE = "".join(
    [f"from {name} import *\n" for name in STARRED]
    + [f"import {name}\n" for name in STARRED if name not in ("builtins", "typing")]
    + [f"sys.setrecursionlimit({RECURSION_LIMIT})\n"]
)
