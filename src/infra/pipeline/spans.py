"""Step `spans`: token scores summed into steps, behaviours, token classes and parts, by both definitions of a step.

`mask`: a step's influence is the sum of its tokens'. `delete`: it is the example's influence minus that of the example
without the step's text, tokenised again and scored along the same directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.analysis import Strongest
from infra.data import TokenizedExample
from infra.layout import EXPLAINED
from infra.pipeline.data import load_records
from infra.pipeline.marked import Marked, mark
from infra.pipeline.shares import Shares
from infra.pipeline.span_sample import score_sample
from infra.pipeline.spread import PASSES, TRACKED, recomputing
from infra.pipeline.stage import Context
from infra.pipeline.step import TOKENIZER, WEIGHTS, Step, Uses
from infra.pipeline.tokenized import ENCODING, sets_of, tokens_of
from infra.progress import progress
from infra.spans import sum_over

SHOWN = 20  # strongest steps and tokens kept per target and side
CONTEXT = 40  # characters shown on either side of a token


@recomputing
def run_spans(context: Context) -> None:
    """Steps, behaviours and token classes with their influence; on a sample also per query fold and by deletion.

    Writes steps.parquet (every step), top_steps.parquet and top_tokens.parquet (training data), shares.parquet (what
    the absolute scores lie in), fold_steps and groups (a sample: rows x query folds) and deleted.parquet (both
    definitions side by side).
    """
    records = {which: {r.id: r for r in load_records(context.records(which))} for which in sets_of(context)}
    tokenised = {which: tokens_of(context.tokenized(which)) for which in records}
    step_rows: list[dict[str, object]] = []
    strongest: dict[str, tuple[Strongest, Strongest]] = {}
    shares = Shares()
    for which, examples in tokenised.items():
        with progress(len(examples), f"{context.label} {which}", "example") as bar:
            for whole, scores in with_scores(context.token_files(which), examples):
                example = whole.counting(context.recipe.scores.tokens)
                scores = {name: counted_scores(name, row, example) for name, row in scores.items()}
                marked = mark(example, records[which][example.id])
                rows = step_table(marked, scores, which)
                step_rows += rows
                if which == "train":
                    shares.add(example, scores)
                    keep_strongest(strongest, marked, scores, rows)
                bar.advance()
    pd.DataFrame(step_rows).to_parquet(context.step_scores, index=False)
    for i, kind in enumerate(("steps", "tokens")):
        frames = [pair[i].table().assign(target=target) for target, pair in strongest.items()]
        table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        first = [c for c in ("target", "side", "rank", "id", "influence") if c in table]
        table[[*first, *table.columns.difference(first, sort=False)]].to_parquet(context.strongest(kind), index=False)
    shares.table().to_parquet(context.shares, index=False)
    score_sample(context, tokenised["train"], records["train"])


def counted_scores(column: str, scores: NDArray[np.float32], example: TokenizedExample) -> NDArray[np.float32]:
    """Scores ``[T]`` that sum to the example's: `loss` scores of tokens that do not count become 0."""
    return np.where(example.loss_mask, scores, np.float32(0)) if column.startswith("loss_") else scores


def step_table(marked: Marked, scores: Mapping[str, NDArray[np.float32]], which: str) -> list[dict[str, object]]:
    """One row per step of a response: character and token range, part, behaviours, influence sums."""
    sums = {name: sum_over(row[None], marked.ranges)[0] for name, row in scores.items()}
    return [
        {
            "id": marked.example.id,
            "set": which,
            "domain": marked.record.domain,
            "step": i,
            "start": s,
            "end": e,
            "t0": t0,
            "t1": t1,
            "part": marked.part[i],
            "behaviours": list(marked.labels[i]),
            **{name: float(values[i]) for name, values in sums.items()},
        }
        for i, ((s, e), (t0, t1)) in enumerate(zip(marked.spans, marked.ranges))
    ]


def keep_strongest(
    strongest: dict[str, tuple[Strongest, Strongest]],
    marked: Marked,
    scores: Mapping[str, NDArray[np.float32]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Add one example's steps and response tokens to each target's strongest (`loss` scores)."""
    example = marked.example
    places = np.flatnonzero(example.loss_mask)
    for column in (c for c in scores if c.startswith("loss_")):
        best = strongest.setdefault(column.removeprefix("loss_"), (Strongest(SHOWN), Strongest(SHOWN)))

        def step(i: int) -> dict[str, object]:
            start, end = marked.spans[i]
            return {
                "id": example.id,
                "domain": marked.record.domain,
                "step": i,
                "behaviours": ", ".join(marked.labels[i]),
                "preview": _line(marked.text[start:end]),
            }

        def token(i: int) -> dict[str, object]:
            a, b = (int(x) for x in example.offsets[places[i]])
            before, after = example.text[max(0, a - CONTEXT) : a], example.text[b : b + CONTEXT]
            return {
                "id": example.id,
                "domain": marked.record.domain,
                "position": int(places[i]),
                "token": example.text[a:b],
                "preview": f"{_line(before)}⟦{example.text[a:b]}⟧{_line(after)}",
            }

        best[0].add(np.array([r[column] for r in rows], dtype=np.float64), step)
        best[1].add(scores[column][places].astype(np.float64), token)


def _line(text: str, width: int = 160) -> str:
    text = text.replace("\n", "↵")
    return text if len(text) <= width else text[: width - 1] + "…"


def with_scores(
    files: Sequence[Path], examples: Sequence[TokenizedExample]
) -> Iterator[tuple[TokenizedExample, dict[str, NDArray[np.float32]]]]:
    """Each example with its token scores by column, one score file in memory at a time.

    ``files`` are the token scores of the examples' set.
    """
    by_id = {e.id: e for e in examples}
    for path in files:
        names = [n for n in pq.read_schema(path).names if n.startswith(("loss_", "position_"))]
        table = pq.read_table(path, columns=["id", *names])
        columns = {name: table[name].combine_chunks() for name in names}
        ends = {name: column.offsets.to_numpy() for name, column in columns.items()}
        values = {name: column.values.to_numpy() for name, column in columns.items()}
        for i, id_ in enumerate(table["id"].to_pylist()):
            yield by_id[id_], {name: values[name][ends[name][i] : ends[name][i + 1]] for name in names}


SPANS = Step(
    "spans",
    run_spans,
    reads=("records", "tokenized", "directions", "scores"),
    uses=(Uses(EXPLAINED, (WEIGHTS, TOKENIZER)),),
    settings=(
        *("scores.span_examples", "scores.delete_examples", "scores.judge", "scores.token_targets", "scores.tokens"),
        *("method", "seed", TRACKED, *PASSES, *ENCODING),
    ),
    unhashed=("scale.recompute",),
)
