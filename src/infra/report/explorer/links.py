"""Between the tokens of a query's answer and the steps of the training examples that raised it, both ways.

``links/links.parquet`` holds a row per query and linked example: ``query, id, side, rank, influence``, the example's
units (``t0, t1, labels, texts``) and ``scores``, float32 ``[units, T]`` row by row: how much each unit raises the
log-likelihood of each token of the answer. ``links/answers.parquet`` holds the answers' tokens and steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infra.errors import ArtifactError
from infra.report.encode import boundaries, displayable, plain, utf16_offsets
from infra.report.explorer.index import RunIndex


def has_links(run: RunIndex) -> bool:
    """Whether the run followed its queries' strongest examples step by step."""
    return run.paths.links.is_file() and run.paths.link_answers.is_file()


def answer_of(run: RunIndex, query: str) -> dict[str, Any] | None:
    """A query's answer in tokens and steps, with every linked example's scores; None where the run has none.

    ``{"text", "starts", "ends", "mask", "steps": [[a, b, labels]], "links": [{"id", "side", "rank", "influence",
    "preview", "units": [{"t0", "t1", "labels", "text"}], "scores": [[T] for each unit]}]}``; places are UTF-16.
    """
    head = _head(run, query)
    if head is None:
        return None
    links = [
        {
            "id": id_,
            "side": side,
            "rank": rank,
            "influence": plain(influence),
            "preview": plain(preview or ""),
            "units": [
                {"t0": a, "t1": b, "labels": plain(names), "text": plain(text)}
                for a, b, names, text in zip(t0, t1, labels, texts)
            ],
            "scores": _block(query, scores, len(t0), len(head["mask"])).tolist(),
        }
        for id_, side, rank, influence, preview, t0, t1, labels, texts, scores in run.cursor()
        .execute(
            "SELECT l.id, l.side, l.rank, l.influence, e.preview, l.t0, l.t1, l.labels, l.texts, l.scores "
            "FROM read_parquet(?) l LEFT JOIN examples e ON e.id = l.id WHERE l.query = ? ORDER BY l.influence DESC",
            [str(run.paths.links), query],
        )
        .fetchall()
    ]
    return {**head, "links": links}


def raised_by(run: RunIndex, id_: str) -> dict[str, list[dict[str, Any]]]:
    """Query -> for each unit of the example ``{"t0", "t1", "value", "step", "text", "step_value"}``.

    ``value`` is the unit's influence on the whole answer; ``step`` the step of the answer that it raises most, with the
    step's text and the influence on it.
    """
    if not has_links(run):
        return {}
    rows = (
        run.cursor()
        .execute("SELECT query, t0, t1, scores FROM read_parquet(?) WHERE id = ?", [str(run.paths.links), id_])
        .fetchall()
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for query, t0, t1, scores in rows:
        head = _head(run, query)
        if head is None:
            continue
        block = _block(query, scores, len(t0), len(head["mask"]))
        sums = np.array([block[:, a:b].sum(axis=1) for a, b, _ in head["steps"]]).reshape(-1, len(t0))
        best = sums.argmax(axis=0) if len(sums) else [None] * len(t0)
        found[query] = [
            {
                "t0": a,
                "t1": b,
                "value": float(block[k].sum()),
                "step": None if i is None else int(i),
                "text": "" if i is None else _step_text(head, int(i)),
                "step_value": None if i is None else float(sums[i, k]),
            }
            for k, (a, b, i) in enumerate(zip(t0, t1, best))
        ]
    return found


def _head(run: RunIndex, query: str) -> dict[str, Any] | None:
    """Text, tokens and steps of an answer."""
    if not has_links(run):
        return None
    row = (
        run.cursor()
        .execute(
            "SELECT text, starts, ends, mask, t0, t1, labels FROM read_parquet(?) WHERE query = ? LIMIT 1",
            [str(run.paths.link_answers), query],
        )
        .fetchone()
    )
    if row is None:
        return None
    text, starts, ends, mask, t0, t1, labels = row
    text = displayable(text)
    if not len(starts) == len(ends) == len(mask):
        raise ArtifactError(f"{run.paths.link_answers}: the tokens of query {query} do not fit; make step links again")
    gaps, lengths = boundaries(utf16_offsets(text, np.stack([starts, ends], axis=1).reshape(-1, 2)))
    last = np.cumsum(gaps + lengths)
    return {
        "text": text,
        "starts": (last - lengths).tolist(),
        "ends": last.tolist(),
        "mask": [int(m) for m in mask],
        "steps": [[a, b, plain(names)] for a, b, names in zip(t0, t1, labels) if 0 <= a < b <= len(mask)],
    }


def _block(query: str, scores: Any, units: int, tokens: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.asarray(scores, dtype=np.float32)
    if values.size != units * tokens or not np.isfinite(values).all():
        raise ArtifactError(f"the links of query {query} do not fit its answer; make step links again")
    return values.reshape(units, tokens)


def _step_text(head: dict[str, Any], step: int, width: int = 160) -> str:
    a, b, _ = head["steps"][step]
    units = head["text"].encode("utf-16-le")[2 * head["starts"][a] : 2 * head["ends"][b - 1]]
    return " ".join(units.decode("utf-16-le", "replace").split())[:width]
