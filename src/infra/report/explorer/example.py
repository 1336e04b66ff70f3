"""One example opened: its text, its tokens' boundaries and exact scores, its steps and behaviours."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.data import TokenizedExample, records_from_table, tokenize
from infra.errors import ArtifactError, InfraError, InputError
from infra.layout import BASE, EXPLAINED, Run
from infra.report.data import ExampleView
from infra.report.encode import plain
from infra.report.explorer.index import RunIndex
from infra.store import read_json

DECOMPOSITIONS = ("loss", "position")
_TEXT_COLUMNS = ("text", "starts", "ends", "mask")


@dataclass
class Opener:
    """Opens examples of one run; keeps its tokenizer and the last files' handles."""

    run: RunIndex
    files: dict[Path, pq.ParquetFile] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    file_lock: threading.Lock = field(default_factory=threading.Lock)
    tokenizer: Any = None
    scales: dict[str, dict[str, float]] = field(default_factory=dict)

    def available(self) -> list[str]:
        """Targets with token scores, in the order of the file."""
        first = next(iter(self.run.rows["tokens"].values()), None)
        if first is None:
            return []
        names = self._file(first[0]).schema_arrow.names
        return [c.removeprefix("loss_") for c in names if c.startswith("loss_")]

    def open(self, id_: str, target: str | None = None) -> ExampleView:
        """The example with the token scores of one target (the first by default).

        Raises :class:`InputError` for an unknown id or target, :class:`ArtifactError` for a damaged file.
        """
        attributes, totals = self._row(id_)
        available = self.available()
        if target is not None and target not in available and available:
            raise InputError(f"no token scores were kept for '{target}'; this run has them for {', '.join(available)}")
        targets = [target] if target in available else available[:1]
        columns = [f"{d}_{t}" for d in DECOMPOSITIONS for t in targets]
        row = self._read("tokens", id_, [*columns, *_TEXT_COLUMNS]) or {}
        text, offsets, mask = self._text(id_, row)
        kept = [d for d in DECOMPOSITIONS if targets and all(row.get(f"{d}_{t}") is not None for t in targets)]
        scores = {d: np.array([row[f"{d}_{t}"] for t in targets], np.float32) for d in kept}
        self._check(id_, offsets, scores)
        sums = np.array([totals.get(t, 0.0) for t in targets], np.float32)
        return ExampleView(id_, attributes, text, offsets, mask, scores, targets, self._steps(id_, len(offsets)), sums)

    def scale(self, target: str) -> dict[str, float]:
        """Per decomposition the 99.9th percentile of ``|token score|`` of a sample of the run, the fixed scale.

        The sample is up to eight row groups spread over the token files; zeros (prompts) are left out.
        """
        if target in self.scales or target not in self.available():
            return self.scales.get(target, {})
        files = list(dict.fromkeys(path for path, _ in self.run.rows["tokens"].values()))
        found: dict[str, float] = {}
        for decomposition in DECOMPOSITIONS:
            column = f"{decomposition}_{target}"
            parts = []
            for path in files[:: max(1, len(files) // 8)][:8]:
                parquet = self._file(path)
                if column in parquet.schema_arrow.names:
                    with self.file_lock:
                        table = parquet.read_row_group(0, columns=[column], use_threads=False)
                    rows = table.column(column).combine_chunks()[:64]
                    parts.append(np.abs(rows.flatten().to_numpy(zero_copy_only=False)))
            values = np.concatenate(parts) if parts else np.zeros(0)
            values = values[values > 0]
            if len(values):
                found[decomposition] = float(np.quantile(values, 0.999, method="higher"))
        self.scales[target] = found
        return found

    def totals(self, id_: str) -> dict[str, float]:
        """Score of the example for every target."""
        return self._row(id_)[1]

    def _row(self, id_: str) -> tuple[dict[str, Any], dict[str, float]]:
        found = self.run.cursor().execute("SELECT * EXCLUDE (_row) FROM examples WHERE id = ?", [id_])
        names = [d[0] for d in found.description or []]
        row = found.fetchone()
        if row is None:
            raise InputError(f"this run has no example '{id_}'")
        values = dict(zip(names, map(plain, row)))
        totals = {k.removeprefix("score_"): v for k, v in values.items() if k.startswith("score_") and v is not None}
        attributes = {k: v for k, v in values.items() if k in self.run.columns}
        return attributes, totals

    def _text(self, id_: str, row: dict[str, Any]) -> tuple[str, NDArray[np.int32], NDArray[np.bool_]]:
        """Text, offsets and loss mask: from the token file where it holds them, else tokenised again."""
        if all(row.get(c) is not None for c in _TEXT_COLUMNS):
            offsets = np.stack([row["starts"], row["ends"]], axis=1).astype(np.int32)
            return row["text"], offsets, np.asarray(row["mask"], dtype=bool)
        example = self._tokenised(id_)
        if example is not None:
            return example.text, example.offsets, example.loss_mask
        preview = self.run.cursor().execute("SELECT preview FROM examples WHERE id = ?", [id_]).fetchone()
        text = str(preview[0]) if preview else ""
        return text, np.zeros((0, 2), np.int32), np.zeros(0, bool)

    def _tokenised(self, id_: str) -> TokenizedExample | None:
        place = self.run.place("records", id_)
        if place is None:
            return None
        record = records_from_table(self._slice(place, None))[0]
        with self.lock:
            if self.tokenizer is None:
                from infra.models import load_tokenizer

                self.tokenizer = load_tokenizer(here(model_path(self.run.root)))
            return tokenize([record], self.tokenizer, max_length=None).examples[0]

    def _steps(self, id_: str, n: int) -> Sequence[tuple[int, int, Sequence[str]]]:
        """Steps of ``spans/steps.parquet``, read once into the index when first asked for."""
        file = self.run.paths.step_scores
        if not n or not file.is_file():
            return ()
        con = self.run.cursor()
        with self.lock:
            if not con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'steps'").fetchone():
                con.execute(
                    "CREATE TABLE steps AS SELECT id, t0::INTEGER AS t0, t1::INTEGER AS t1, behaviours "
                    "FROM read_parquet(?) ORDER BY id, t0",
                    [str(file)],
                )
        rows = con.execute("SELECT t0, t1, behaviours FROM steps WHERE id = ? ORDER BY t0", [id_]).fetchall()
        return [(a, b, tuple(labels or ())) for a, b, labels in rows if 0 <= a < b <= n]

    def _read(self, kind: str, id_: str, columns: Sequence[str]) -> dict[str, Any] | None:
        place = self.run.place(kind, id_)
        if place is None:
            return None
        names = set(self._file(place[0]).schema_arrow.names)
        table = self._slice(place, [c for c in columns if c in names])
        row = {c: table.column(c)[0].as_py() if c == "text" else _list(table.column(c)[0]) for c in table.column_names}
        return row

    def _slice(self, place: tuple[Path, int], columns: Sequence[str] | None) -> Any:
        """One row as a table, reading only the row group it lies in."""
        path, row = place
        parquet = self._file(path)
        try:
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                if row < size:
                    with self.file_lock:
                        table = parquet.read_row_group(group, columns=columns, use_threads=False)
                    return table.slice(row, 1)
                row -= size
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); delete it and run again") from error
        raise ArtifactError(f"{path} has lost rows since it was opened; open the run again")

    def _file(self, path: Path) -> pq.ParquetFile:
        if path not in self.files:
            self.files[path] = pq.ParquetFile(path)
        return self.files[path]

    def _check(self, id_: str, offsets: NDArray[np.int32], scores: dict[str, NDArray[np.float32]]) -> None:
        for name, values in scores.items():
            if values.shape[1] != len(offsets):
                raise ArtifactError(
                    f"example {id_}: {values.shape[1]} '{name}' scores for {len(offsets)} tokens: the run's "
                    "tokenizer or records have changed since it was scored; run the scores stage again"
                )


def _list(scalar: Any) -> NDArray[Any] | None:
    return None if not scalar.is_valid else scalar.values.to_numpy(zero_copy_only=False)


def here(model: str) -> Path:
    """The model's folder on this machine. Raises :class:`ArtifactError` where it would have to be fetched first."""
    from infra.models import model_folder

    found = model_folder(model, fetch=False)
    if found is None:
        raise ArtifactError(
            f"the tokenizer of {model} is not on this machine, so texts cannot be split in tokens; run "
            f"`infra fetch {model}`"
        )
    return found


def model_path(root: Path) -> str:
    """Where the run's tokenizer lies: the fine-tuned model, the base it trained, or the recipe's."""
    from infra.models import model_place

    run = Run(root)
    for made in (run.model(EXPLAINED), run.model(BASE)):
        if (made / "tokenizer.json").is_file():
            return str(made)
    try:
        model = read_json(run.recipe_file)["model"]
        base = str(model["base"])
    except (InfraError, KeyError, TypeError) as error:
        raise ArtifactError(f"{run.recipe_file} does not name the model, so texts cannot be split in tokens") from error
    return model_place(base)
