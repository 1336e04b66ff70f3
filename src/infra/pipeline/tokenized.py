"""Step `tokenized`: training data and pool as token ids with loss masks, once, for every step that follows."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from infra.data import (
    Counted,
    Record,
    TokenizedExample,
    TokenizedFile,
    TokenizeResult,
    iter_tokenize,
    records_from_table,
    resolve_template,
    write_tokenized,
)
from infra.influence.fit import subsample_draw
from infra.layout import BASE, SETS
from infra.models import Limits, load_tokenizer
from infra.parallel.shards import SHARD_EXAMPLES
from infra.pipeline.recipe import Recipe
from infra.pipeline.stage import Context
from infra.pipeline.step import TOKENIZER, Step, Uses
from infra.store import write_json

ENCODING = ("data.max_length", "data.on_error")
"""Settings that decide what a record's tokens are."""


def stored_records(path: Path) -> Iterator[Record]:
    """The records of a file of :func:`infra.pipeline.data.save_records`, one row group in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=512):
            yield from records_from_table(pa.Table.from_batches([batch]))


def encode(records: Sequence[Record], model_path: str, recipe: Recipe) -> list[TokenizedExample]:
    """Token ids and loss masks of records that no file of tokens holds (cut ones).

    Raises InputError naming a record that is too long, unless the recipe skips those.
    """
    tokenizer = load_tokenizer(model_path)
    return list(iter_tokenize(records, tokenizer, max_length=recipe.data.max_length, on_error=recipe.data.on_error))


def sets_of(context: Context) -> tuple[str, ...]:
    """Which of train and pool this run has."""
    return tuple(w for w in SETS if context.tokenized(w).exists())


def tokens_of(path: Path) -> list[TokenizedExample]:
    """All examples of a file of tokens, in memory."""
    return list(TokenizedFile.open(path).stream())


def sampled(examples: Iterable[TokenizedExample], n: int, seed: int) -> list[TokenizedExample]:
    """At most ``n`` examples, drawn by hash of seed and id, in the order of the data."""
    draws = ((subsample_draw(seed, e), i, e) for i, e in enumerate(examples))
    return [e for _, _, e in sorted(heapq.nsmallest(n, draws), key=lambda drawn: drawn[1])]


def write_tokens(records: Iterator[Record], path: Path, context: Context, counted: Counted = "all") -> TokenizeResult:
    """Tokenise under the base model's tokenizer into ``path``, in the shards that scoring takes; returns its notes.

    ``counted`` are the tokens that the loss is on.
    Raises InputError naming a record that is too long, unless the recipe skips those.
    """
    recipe, notes = context.recipe, TokenizeResult()
    examples = iter_tokenize(
        records,
        load_tokenizer(context.use(BASE)),
        max_length=recipe.data.max_length,
        on_error=recipe.data.on_error,
        result=notes,
    )
    examples = Limits.of_folder(context.use(BASE)).checked(examples, f" of {path.stem}")
    write_tokenized((e.counting(counted) for e in examples), path, recipe.scores.shard_tokens, SHARD_EXAMPLES)
    return notes


def run_tokenized(context: Context) -> None:
    """Write train.parquet and pool.parquet, and notes.json: the chat template and the records passed over, with why.

    Every model of a run has the base model's tokenizer, so that these are the tokens of all of them.
    """
    skipped: list[dict[str, str]] = []
    for which in SETS:
        if context.records(which).exists():
            notes = write_tokens(stored_records(context.records(which)), context.tokenized(which), context)
            skipped += [{"set": which, "id": s.id, "reason": s.reason} for s in notes.skipped]
    template = resolve_template(load_tokenizer(context.use(BASE))).name
    write_json(context.tokenized_notes, {"template": template, "skipped": skipped})


TOKENIZED = Step(
    "tokenized",
    run_tokenized,
    reads=("records",),
    uses=(Uses(BASE, (TOKENIZER,)),),
    settings=(*ENCODING, "scores.shard_tokens"),
)
