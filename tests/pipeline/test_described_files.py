"""Every column of a run's Parquet files is described in the reference."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
from docgen.columns import COLUMNS
from docgen.files import columns_of, files_page

from infra.report.sections import TABLES


def test_every_column_of_a_made_run_is_described(finished: Path) -> None:
    seen = set()
    for file in sorted(finished.rglob("*.parquet")):
        place = file.relative_to(finished).as_posix()
        if place.startswith("results/tables/"):
            assert file.stem in TABLES, f"{place}: no section of the report declares this table"
            continue
        described = columns_of(place)
        assert described, f"{place} is not described in docgen/columns.py"
        seen.add(place)
        patterns = [
            re.sub("<target>", ".+", re.escape(c).replace(re.escape("<target>"), "<target>")) for c in described
        ]
        for column in pq.read_schema(file).names:
            known = "any other" in described or any(re.fullmatch(p, column) for p in patterns)
            assert known, f"{place}: column {column} is not described in docgen/columns.py"
    assert len(seen) > 20


def test_the_page_names_every_described_column() -> None:
    page = files_page()
    for pattern, columns in COLUMNS.items():
        section = page.split(f"### `{pattern}`\n")[1].split("\n### ")[0]
        assert all(f"| `{column}` |" in section for column in columns), pattern
