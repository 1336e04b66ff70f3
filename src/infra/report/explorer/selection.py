"""What the list shows, or the best of it, as a training file: the code of `infra select`, packed for a download."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.errors import InputError
from infra.experiments.selection import SelectSettings, select_records, write_selection
from infra.report.explorer.index import RunIndex
from infra.report.explorer.rows import Query, conditions

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "keep": (int, float),
    "top": int,
    "drop_harmful": bool,
    "weights": bool,
    "pool": int,
    "target": str,
    "by": str,
    "balance": bool,
    "control": str,
    "seed": int,
}
_NEEDED = ("domain", "n_response_tokens", "set")


def selection(run: RunIndex, settings: Any, shown: Query | None, messages: bool) -> tuple[bytes, dict[str, Any]]:
    """A zip file of the training file, its control, the manifest of every row and the account; and the account.

    ``settings`` are those of :class:`~infra.experiments.selection.SelectSettings` as JSON has them. ``shown``: only
    examples of this list may be kept. ``messages``: the records' messages instead of rows of the user's own files,
    which are read where the run says that they lie. Nothing is written into the run.

    Raises :class:`InputError` for settings that make no sense, or a run that lacks what a selection needs.
    """
    chosen = settings_from(settings)
    lacking = [c for c in _NEEDED if c not in run.columns]
    if lacking:
        raise InputError(f"the scored examples lack the column(s) {', '.join(lacking)}; score them again")
    among = None if shown is None else _ids(run, shown)
    with tempfile.TemporaryDirectory(prefix="infra-select-") as made:
        folder = Path(made)
        try:
            selected = select_records(run.paths, chosen, among)
            write_selection(run.paths, selected, folder, messages=messages)
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"the run's files do not allow a selection: {type(error).__name__} {error}") from error
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(f for f in folder.rglob("*") if f.is_file()):
                archive.write(file, file.relative_to(folder))
    return out.getvalue(), selected.manifest


def settings_from(sent: Any) -> SelectSettings:
    """Settings from JSON. Raises :class:`InputError` naming one that is not known or of another type."""
    if not isinstance(sent, Mapping):
        raise InputError("the settings of a selection are an object with the names of infra select's options")
    for name, value in sent.items():
        kind = _KINDS.get(name)
        if kind is None:
            raise InputError(f"a selection has no setting {str(name)[:40]!r}; it has {', '.join(_KINDS)}")
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise InputError(f"the setting {name} of a selection cannot be {json.dumps(value)[:40]}")
    return SelectSettings(**{name: value for name, value in sent.items() if value is not None})


def _ids(run: RunIndex, shown: Query) -> set[str]:
    """The ids of all examples that a list finds."""
    con = run.cursor()
    where, values = conditions(run, con, shown)
    return {str(id_) for (id_,) in con.execute(f"SELECT id FROM examples {where}", values).fetchall()}
