"""The notebooks run from top to bottom, and their last words are what they claim."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from docgen.notebooks import NOTEBOOKS, notebook_page
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda p: p.stem)
def executed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(name, everything that it printed) of a notebook that was run anew."""
    notebook: Any = nbformat.read(request.param, as_version=4)
    where = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    without_ports = Config({"ConnectionFileMixin": {"transport": "ipc"}})
    NotebookClient(
        notebook, timeout=900, startup_timeout=300, kernel_name="python3", resources=where, config=without_ports
    ).execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    return request.param.stem, "".join(o.get("text", "") for o in outputs)


def test_a_notebook_runs_and_its_numbers_hold_together(executed: tuple[str, str]) -> None:
    name, printed = executed
    numbers = [float(n.replace("−", "-")) for n in re.findall(r"[-+−]?\d+\.\d+", printed)]
    assert numbers
    if name == "attribute_and_select":
        tokens, example = re.findall(r"sum of the tokens ([-\d.]+) score of the example ([-\d.]+)", printed)[0]
        assert float(tokens) == pytest.approx(float(example), rel=1e-2, abs=0.2)
    else:
        lds = {method: float(value) for method, value in re.findall(r"(\w+) +LDS ([-+\d.]+)", printed)}
        assert lds["unrolled"] > 0.5 and lds["unrolled"] > lds["length"]


def test_a_notebook_is_kept_with_its_output_and_without_a_path_of_a_machine() -> None:
    assert len(NOTEBOOKS) == 2
    for path in NOTEBOOKS:
        page = notebook_page(path)
        assert page.count("```text") >= 3 and not re.search(r"/(home|root|tmp|work)/", page)
