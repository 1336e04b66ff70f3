"""A selection as files: rows in the user's own format, the control beside them, and what became of every row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from infra.data import Record, records_from_table
from infra.data.copying import ChosenRows, copy_rows
from infra.data.llamafactory import declare_data_sets
from infra.data.named import is_named_data
from infra.data.rows import is_hub_data, iter_rows
from infra.errors import ArtifactError, InputError
from infra.experiments.selection.records import SelectedRecords
from infra.layout import SETS, Run
from infra.store import RunFolder, read_json, replacing, sha256_path, write_json


@dataclass(frozen=True, slots=True)
class _File:
    """A file to write, and how."""

    path: Path
    control: bool
    write: Callable[[Path], Any]


@dataclass(frozen=True, slots=True)
class SelectionFiles:
    """What was written: training files, control files (none without a control), the manifest of rows and the account
    of the whole selection."""

    kept: tuple[Path, ...]
    control: tuple[Path, ...]
    manifest: Path
    account: Path


def write_selection(
    run: str | Path | Run, selected: SelectedRecords, out: str | Path, *, messages: bool = False
) -> SelectionFiles:
    """Write the chosen records of a run's data as training files.

    Args:
        run: the run that ``selected`` was made from.
        selected: the decision of :func:`select_records`.
        out: a file (``kept.jsonl``), for data of one form and schema, or a folder, in which each of the user's files
            gets a file of the same name in ``kept`` and in ``control``. The control of a file is
            ``kept.control.jsonl``. Rows are copied field by field in their order; weights are written to the field
            ``weight``. A name that ends in ``.gz`` is packed.
        messages: write ``id`` and ``messages`` (and tools and weights, where there are any) as JSON Lines instead of
            the user's format. Data without files, such as the embedded world, is always written so.

    Beside them lie ``manifest.jsonl``, one line for every row of the user's files with what became of it and why,
    ``selection.json``, and where there is none ``dataset_info.json``, which declares the files to LLaMA-Factory.

    Raises:
        InputError: a source file that changed or is gone since it was scored, rows that do not fit in one file, an
            ``out`` that is a source file.
        ArtifactError: a run of an earlier version, which did not note where records come from.
    """
    paths = run if isinstance(run, Run) else Run(run)
    sources = _sources(paths)
    origins = _origins(paths, selected)
    target = _Target(Path(out))
    if messages or any(is_named_data(s) for s in sources):
        plan = _plan_messages(paths, selected, target)
    else:
        _check_unchanged(paths, sources)
        plan = _plan_copies(origins, selected, sources, target)
    data = {Path(s).resolve() for s in sources}
    for path in (*(f.path.resolve() for f in plan), target.manifest.resolve(), target.account.resolve()):
        if data & {path, *path.parents}:
            raise InputError(f"{path} is a file of the data itself, or lies in its folder; give another --out")
    for file in plan:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.write(file.path)
    _write_lines(target.manifest, _manifest_rows(paths, origins, selected, sources))
    written = [f.path.relative_to(target.folder).as_posix() for f in plan]
    _remove_earlier(target, written)
    write_json(target.account, {**selected.manifest, "files": written})
    named = {f"{_stem(f.path.name).removesuffix('.control')}{'_control' if f.control else ''}": f.path for f in plan}
    declare_data_sets(named, target.folder / "dataset_info.json", replace=not target.one_file)
    kept, control = (tuple(f.path for f in plan if f.control is wanted) for wanted in (False, True))
    return SelectionFiles(kept, control, target.manifest, target.account)


@dataclass(frozen=True, slots=True)
class _Target:
    """Names of the files of a selection. ``out`` is one file, or a folder of them."""

    out: Path

    @property
    def one_file(self) -> bool:
        return self.out.suffix != "" and not self.out.is_dir()

    @property
    def folder(self) -> Path:
        return self.out.parent if self.one_file else self.out

    @property
    def manifest(self) -> Path:
        return self._beside("manifest.jsonl")

    @property
    def account(self) -> Path:
        return self._beside("selection.json")

    def _beside(self, name: str) -> Path:
        return self.folder / (f"{_stem(self.out.name)}.{name}" if self.one_file else name)

    def file(self, name: str, control: bool) -> Path:
        """The file for the rows of the user's file ``name``, or of its control."""
        if not self.one_file:
            return self.out / ("control" if control else "kept") / name.removesuffix(".gz")
        stem = _stem(self.out.name)
        return self.out.with_name(f"{stem}.control{self.out.name[len(stem) :]}") if control else self.out


def _remove_earlier(target: _Target, written: Sequence[str]) -> None:
    """Remove what an earlier selection wrote here and this one did not, such as its control."""
    earlier = read_json(target.account).get("files", []) if target.account.exists() else []
    for name in set(earlier) - set(written):
        (target.folder / name).unlink(missing_ok=True)


def _stem(name: str) -> str:
    """A file's name without its ending (``train`` of ``train.jsonl.gz``)."""
    return name.removesuffix(".gz").rpartition(".")[0]


def _sources(paths: Run) -> list[str]:
    """The paths of the run's sources, in order."""
    manifest = RunFolder(paths.root).manifest("records")
    if manifest is None or not paths.origins.exists():
        raise ArtifactError(
            f"{paths.root} does not say where its records come from; run the command that made it once more"
        )
    if manifest.config.get("data.world") is not None:
        return [f"world:{manifest.config['data.world']}"]
    return [str(s["path"]) for s in manifest.config["data.sources"]]


def _origins(paths: Run, selected: SelectedRecords) -> pd.DataFrame:
    """Every record that was read, with the row of ``selected`` it was scored as (-1: none)."""
    origins = pd.read_parquet(paths.origins)
    place = {key: i for i, key in enumerate(zip(selected.rows.set, selected.rows.id))}
    return origins.assign(scored=[place.get(key, -1) for key in zip(origins.set, origins.id)])


def _path(source: str, file: str) -> str:
    return str(Path(source) / file) if file else source


def _check_unchanged(paths: Run, sources: Sequence[str]) -> None:
    manifest = RunFolder(paths.root).manifest("records")
    for source in sources:
        scored = manifest.inputs.get(source) if manifest is not None else None
        if scored is not None and sha256_path(Path(source)) != scored:
            what = "changed" if Path(source).exists() else "is gone"
            raise InputError(
                f"{source} {what} since it was scored, so that its rows are not known to be the scored ones; put the "
                "old file back, or score the new one"
            )


def _plan_copies(
    origins: pd.DataFrame, selected: SelectedRecords, sources: Sequence[str], target: _Target
) -> list[_File]:
    """Rows of the user's files, copied."""
    plan: dict[tuple[Path, bool], list[ChosenRows]] = {}
    for control, kept, weight in _choices(selected):
        for source, file in dict.fromkeys(zip(origins.source.tolist(), origins.file.tolist())):
            mine = origins[(origins.source == source) & (origins.file == file) & (origins.scored >= 0)]
            here = mine[kept.iloc[mine.scored].to_numpy()]
            values = weight.iloc[here.scored].tolist()
            chosen = ChosenRows(
                _path(sources[source], file),
                {int(n): None if pd.isna(w) else float(w) for n, w in zip(here.line, values)},
            )
            if chosen.weights:
                path = target.file(_name(sources, source, file), control)
                plan.setdefault((path, control), []).append(chosen)
    return [_File(path, control, partial(copy_rows, rows)) for (path, control), rows in plan.items()]


def _name(sources: Sequence[str], source: int, file: str) -> str:
    """What the file for the rows of a source's file is called; of two sources of one name the later is numbered."""
    path = sources[source]
    if is_hub_data(path):
        name = path.removeprefix("hf:").replace("/", "-").replace(":", "-") + ".jsonl"
    else:
        name = file or Path(path).name
        name = f"{Path(path).name}/{name}" if file and len(sources) > 1 else name
    same = [i for i, s in enumerate(sources) if Path(s).name == Path(path).name]
    return name if same.index(source) == 0 else f"{same.index(source) + 1}-{name}"


def _choices(selected: SelectedRecords) -> Iterator[tuple[bool, pd.Series, pd.Series]]:
    """(whether it is the control, which rows it keeps, their weights)."""
    rows = selected.rows
    yield False, rows.kept, rows.weight
    if "control_kept" in rows:
        yield True, rows.control_kept, rows.control_weight


def _plan_messages(paths: Run, selected: SelectedRecords, target: _Target) -> list[_File]:
    """The records' messages, as JSON Lines."""
    import pyarrow.parquet as pq

    records = {
        (which, r.id): r
        for which in SETS
        if paths.records(which).exists()
        for r in records_from_table(pq.read_table(paths.records(which)))
    }
    plan: list[_File] = []
    for control, kept, weight in _choices(selected):
        path = target.file("train.jsonl", control)
        if not path.name.endswith((".jsonl", ".ndjson")):
            raise InputError(f"{path}: messages are written as JSON Lines; let the file end in .jsonl")
        chosen = [
            (records[key], w)
            for key, keep, w in zip(zip(selected.rows.set, selected.rows.id), kept, weight)
            if keep and key in records
        ]
        plan.append(_File(path, control, partial(_write_messages, chosen)))
    return plan


def _write_messages(chosen: Sequence[tuple[Record, float]], path: Path) -> None:
    _write_lines(path, (_message_row(r, w) for r, w in chosen))


def _message_row(record: Record, weight: float) -> dict[str, Any]:
    turns = [{"role": m.role, "content": m.content, **m.extras()} for m in record.messages]
    tools = {"tools": [dict(t) for t in record.tools]} if record.tools else {}
    return {"id": record.id, "messages": turns, **tools, **({} if pd.isna(weight) else {"weight": weight})}


def _write_lines(path: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    with replacing(path) as part, part.open("w", encoding="utf-8") as sink:
        sink.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _manifest_rows(
    paths: Run, origins: pd.DataFrame, selected: SelectedRecords, sources: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Every row of the user's files in order: what became of it, and why."""
    notes = read_json(paths.tokenized_notes) if paths.tokenized_notes.exists() else {"skipped": []}
    unscored = {(s["set"], s["id"]): s["reason"] for s in notes["skipped"]}
    bad = {(s["file"], s["line"]): s["reason"] for s in read_json(paths.dropped)["skipped"]}
    listed, scored = _dicts(origins), _dicts(selected.rows)
    read: dict[tuple[int, str, int], Mapping[str, Any]] = {(r["source"], r["file"], r["line"]): r for r in listed}
    for number, source in enumerate(sources):
        if is_named_data(source):
            yield from ({"id": r["id"], **_fate(r, scored, unscored)} for r in listed if r["source"] == number)
            continue
        for found in iter_rows(source):
            file = Path(found.file).relative_to(source).as_posix() if Path(source).is_dir() else ""
            place = {"file": file or Path(source).name, "line": found.line}
            known = read.get((number, file, found.line))
            if known is not None:
                yield {"id": known["id"], **place, **_fate(known, scored, unscored)}
            else:
                reason = bad.get((found.file, found.line)) or found.problem
                why = f"a bad row: {reason}" if reason else "not read: beyond the source's limit"
                yield {"id": None, **place, "kept": False, "why": why}


def _dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _fate(
    row: Mapping[str, Any], scored: Sequence[Mapping[str, Any]], unscored: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    """What the manifest says of a record that was read."""
    if row["scored"] < 0:
        why = row["why"] or unscored.get((row["set"], row["id"])) or "not scored"
        return {"kept": False, "why": why}
    found = scored[row["scored"]]
    told = ("kept", "why", "set", "domain", "score", "percentile", "harmful")
    shown = {**{name: found[name] for name in told}, "response_tokens": found["n_response_tokens"]}
    if not pd.isna(found["weight"]):
        shown["weight"] = found["weight"]
    if "control_kept" in found:
        shown["control"] = found["control_kept"]
    return shown
