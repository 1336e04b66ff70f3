"""A notebook as a page: its text, its code, and what the code printed when the notebook was last run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
NOTEBOOKS = tuple(sorted(FOLDER.glob("*.ipynb")))


def notebook_page(path: Path) -> str:
    """The notebook's cells in Markdown, with a line that says where the file is."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    title, *rest = ("".join(cell["source"]) for cell in cells[:1])
    note = f"*This page is the notebook `examples/notebooks/{path.name}`, which the tests run.*\n"
    return "\n".join([title, "", note, *rest, *(part for cell in cells[1:] for part in _cell(cell))])


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source, ""]
    out = [f"```python\n{source}\n```", ""]
    for output in cell.get("outputs", []):
        text = "".join(output.get("text", output.get("data", {}).get("text/plain", [])))
        if text.strip() and output.get("name") != "stderr":
            out += [f"```text\n{text.rstrip()}\n```", ""]
    return out
