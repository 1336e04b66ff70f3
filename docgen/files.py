"""The page of a run's files and columns, from :mod:`infra.layout` and :mod:`docgen.columns`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docgen.columns import COLUMNS
from docgen.text import cell, plain_roles, table
from infra.layout import Run
from infra.report.sections import SECTIONS

HEAD = """# Files and columns of a run

`infra run` and `infra score` write one folder. Open its tables with pandas or DuckDB:

```python
import pandas as pd
from infra.layout import Run

run = Run("runs/my-run")
scores = pd.read_parquet(run.example_scores)
scores.sort_values("score_math", ascending=False).head()
```

Each step of a run writes a folder of its own. `manifest.json` in it names the step's settings and the SHA-256 of every
input and output. A folder that ends in `.part` is not finished. Rows are Parquet files, tensors are safetensors files,
and notes are JSON. Times, memory and facts about the machine are kept apart, in `runtime.jsonl` and `metrics.jsonl`.

This page is written from the code when the site is built.
"""


def files_page() -> str:
    """The page in Markdown."""
    out = [HEAD, "## Where everything lies\n", "`Run` has an attribute or a method for each file.\n"]
    out.append(table(["file", "from Python", "what it holds"], list(_places())))
    out.append("## Columns\n")
    for pattern, columns in COLUMNS.items():
        out += [f"### `{pattern}`\n", table(["column", "meaning"], [[f"`{c}`", cell(m)] for c, m in columns.items()])]
    out += ["## Tables of the report\n", "`results/tables/NAME.parquet`, which the page shows and gives as CSV.\n"]
    rows = [
        [f"`{t.name}`", cell(t.title), " ".join(f"`{c}`" for c in t.columns.split())]
        for section in SECTIONS
        for t in section.tables
    ]
    out.append(table(["table", "title", "columns"], rows))
    return "\n".join(out)


def columns_of(file: str) -> tuple[str, ...]:
    """The described columns of a file below a run folder; none where no pattern fits it."""
    return next((tuple(columns) for pattern, columns in COLUMNS.items() if Path(file).match(pattern)), ())


def _places() -> Iterator[list[str]]:
    """(path, attribute, meaning) of everything that the layout names."""
    run = Run("RUN")
    for name, member in vars(Run).items():
        if name.startswith("_") or name == "root":
            continue
        what = cell(plain_roles((inspect.getdoc(member) or "").split("\n\n")[0]))
        place, shown = _place(run, name, member)
        if place:
            yield [f"`{place}`", f"`{shown}`", what]


def _place(run: Run, name: str, member: Any) -> tuple[str, str]:
    """(path below the run folder, how to ask for it); no path for lists of files."""
    if isinstance(member, property):
        place, shown = getattr(run, name), f"run.{name}"
    else:
        parameters = [p for p in inspect.signature(member).parameters if p != "self"]
        values = [0 if p == "number" else f"<{p}>" for p in parameters]
        place, shown = member(run, *values), f"run.{name}({', '.join(parameters)})"
    return ("", "") if isinstance(place, list) else (place.relative_to("RUN").as_posix(), shown)
