"""A finished run from Python and in a notebook: data frames, token maps, figures.

::

    run = load_run("runs/my-run")
    run.tables["effects"]                 # every table of the report, as a data frame
    run.examples.nlargest(5, "score_math")
    run.tokens("r0001", "math")           # the last expression of a cell: coloured tokens
    run.queries()                         # query -> its strongest examples
    run.save_figures("figures")           # PDF and SVG for a paper
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.errors import ArtifactError, InputError
from infra.layout import Run
from infra.report.data import ExampleView, ReportData
from infra.report.sections import SECTIONS, answer
from infra.report.svg import save_figure, sheet
from infra.report.tokenmap import TokenMap, show_tokens
from infra.store import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEXT = ("text", "starts", "ends", "mask")


@dataclass(frozen=True)
class OpenRun:
    """One run folder; everything is read when it is asked for. ``paths`` says where it lies."""

    paths: Run

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of results.json. Raises :class:`ArtifactError` for a run that is not finished."""
        return dict(read_json(self.paths.results))

    @cached_property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """The report's tables by name."""
        return {p.stem: pd.read_parquet(p) for p in self.paths.tables}

    @cached_property
    def examples(self) -> pd.DataFrame:
        """One row per example of training set and pool: attributes and ``score_<target>``."""
        return pd.read_parquet(self.paths.example_scores)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row per step: id, step, character and token range, part, behaviours, ``loss_<target>`` sums."""
        return pd.read_parquet(self.paths.step_scores)

    def queries(self, query: str | None = None) -> pd.DataFrame:
        """Rows (query, side, rank, id, influence) of every query's strongest examples, or of one query's.

        Raises :class:`ArtifactError` where the run kept none.
        """
        file = self.paths.query_scores
        if not file.is_file():
            raise ArtifactError(f"{self.paths.root} has no queries: a run with directions of another run keeps none")
        columns = ["query", "target", "text", "side", "rank", "id", "influence"]
        chosen = None if query is None else [("query", "==", query)]
        return pd.read_parquet(file, columns=columns, filters=chosen)

    def view(self, id_: str) -> ExampleView:
        """An example with its text, steps and token scores. Raises :class:`InputError` for an unknown id."""
        for file in self.paths.token_files():
            names = pq.read_schema(file).names
            if any(c not in names for c in _TEXT):
                raise ArtifactError(
                    f"{file} holds no texts: it comes from an older version; run the scores stage again"
                )
            rows = pq.read_table(file, filters=[("id", "==", id_)]).to_pylist()
            if rows:
                return self._view(id_, rows[0])
        raise InputError(f"{self.paths.root} has no token scores of an example '{id_}'; see its `examples`")

    def _view(self, id_: str, row: Mapping[str, Any]) -> ExampleView:
        targets = [c.removeprefix("loss_") for c in row if c.startswith("loss_")]
        known = self.examples[self.examples["id"] == id_].iloc[0]
        steps = pd.read_parquet(self.paths.step_scores, filters=[("id", "==", id_)]).sort_values("step")
        return ExampleView(
            id_,
            {str(k): v for k, v in known.items() if not str(k).startswith("score_") and k not in ("id", "preview")},
            row["text"],
            np.stack([row["starts"], row["ends"]], axis=1).astype(np.int32).reshape(-1, 2),
            np.asarray(row["mask"], dtype=bool),
            {
                kind: np.array([row[f"{kind}_{t}"] for t in targets], np.float32)
                for kind in ("loss", "position")
                if all(row.get(f"{kind}_{t}") is not None for t in targets)
            },
            targets,
            [(int(s["t0"]), int(s["t1"]), tuple(s["behaviours"])) for s in steps.to_dict("records")],
            np.array([known[f"score_{t}"] for t in targets], np.float32),
        )

    def tokens(
        self, id_: str, target: str | None = None, *, decomposition: str = "loss", reference: float | None = None
    ) -> TokenMap:
        """A token map of an example; see :func:`infra.report.show_tokens`."""
        return show_tokens(self.view(id_), target, decomposition=decomposition, reference=reference)

    def query_tokens(self, query: str, id_: str) -> TokenMap:
        """A token map of an example for one query that has it among its strongest."""
        rows = pq.read_table(self.paths.query_scores, filters=[("query", "==", query), ("id", "==", id_)]).to_pylist()
        if not rows:
            raise InputError(f"example '{id_}' is not among the strongest of query '{query}'; see queries('{query}')")
        view, kind = self.view(id_), str(rows[0]["decomposition"])
        values: NDArray[np.float32] = np.asarray(rows[0]["tokens"], np.float32)[None]
        made = ExampleView(
            view.id,
            view.attributes,
            view.text,
            view.token_offsets,
            view.loss_mask,
            {kind: values},
            [f"query {query}"],
            view.steps,
        )
        return show_tokens(made, decomposition=kind)

    def figures(self) -> dict[str, Figure]:
        """The figures of the report as matplotlib figures, by name; effects in the form that the answer quotes."""
        data = ReportData("", results=self.results, tables=self.tables, scores=self._train())
        made: dict[str, Figure] = {}
        for figure in (f for section in SECTIONS for f in section.figures(data) if f.panels):
            if figure.name not in made:
                made[figure.name] = sheet(figure.panels, caption=figure.caption, key=figure.key)
        return made

    def _train(self) -> pd.DataFrame:
        return self.examples[self.examples["set"] == "train"] if "set" in self.examples else self.examples

    def save_figures(self, folder: str | Path, formats: Sequence[str] = ("pdf", "svg")) -> list[Path]:
        """Write every figure in every format, the same bytes each time. Returns the paths."""
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in self.figures().items():
            for kind in formats:
                paths.append(out / f"{name}.{kind}")
                save_figure(figure, paths[-1])
        return paths

    def _repr_html_(self) -> str:
        """The answer in sentences and the names of the tables."""
        data = ReportData(str(self.results.get("name", self.paths.root.name)), False, (), self.results, self.tables)
        said = "".join(f"<li><b>{escape(s.verdict)}</b>: {escape(s.text)}</li>" for s in answer(data))
        names = ", ".join(f"{escape(name)} ({len(table)})" for name, table in self.tables.items())
        return f"<p><b>{escape(data.title)}</b></p><ul>{said}</ul><p>tables (rows): {names}</p>"


def load_run(folder: str | Path) -> OpenRun:
    """Open the folder of a finished run. Raises :class:`ArtifactError` when it holds no scores."""
    run = Run(folder)
    if not run.example_scores.is_file():
        raise ArtifactError(f"{run.example_scores} is missing; give the folder of an `infra run` or `infra score`")
    return OpenRun(run)
