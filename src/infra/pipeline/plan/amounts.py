"""How much there is to do: records, tokens and queries, from the recipe and a look at its files' sizes."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from infra.data import read_records
from infra.data.rows import iter_rows
from infra.errors import InputError
from infra.pipeline.recipe import Recipe
from infra.pipeline.settings import SourceSettings

CHARACTERS_PER_TOKEN = 3.5  # English, mathematics and code under vocabularies of 32k and more
LOOK = 200  # rows looked at in each file
WORLD_TOKENS = (128.8, 0.66)  # tokens per record of the embedded world, and the share of them in the response
WORLD_PROMPT = 44.0
WORLD_ANSWER = 105.0
TASKS = {  # problems of the public benchmarks where there is no file to look at: (target, held-out) by the hash split
    "gsm8k": (440, 879),
    "math500": (167, 333),
    "aime24": (0, 30),
    "aime25": (0, 30),
    "humaneval": (55, 109),
    "mbpp": (167, 333),
    "livecodebench": (293, 587),
    "world-math": (240, 400),
    "world-code": (240, 400),
    "world-math-paraphrased": (0, 400),
    "world-code-paraphrased": (0, 400),
}


@dataclass(frozen=True, slots=True)
class Task:
    """Problems of one benchmark by split."""

    name: str
    target: int
    held_out: int
    for_targets: bool
    for_arms: bool
    samples: int


@dataclass(frozen=True, slots=True)
class Amounts:
    """``train``, ``pool``, ``pretrain``: examples. ``length``: tokens of one. ``response``: the share under the loss.
    ``answer``: tokens of a generated answer. ``levels``: difficulty levels in use. ``folds``: query folds, where their
    number is known; else as many as targets, levels and parts allow."""

    train: int
    pool: int
    pretrain: int
    length: float
    response: float
    prompt: float
    answer: float
    tasks: tuple[Task, ...]
    levels: int = 5
    given_queries: int = 0
    folds: int | None = None

    @property
    def queries(self) -> int:
        """Responses that targets are made of, if every problem gives one."""
        return self.given_queries or sum(t.target for t in self.tasks if t.for_targets)

    @property
    def n_targets(self) -> int:
        """Whole targets."""
        return max(1, len({t.name for t in self.tasks if t.for_targets}))


def amounts_of(
    recipe: Recipe,
    examples: int | None = None,
    pool: int | None = None,
    length: float | None = None,
    queries: int | None = None,
    folds: int | None = None,
) -> Amounts:
    """Amounts of a recipe; what is given overrides what its files say, and a length its ``data.max_length`` too.

    Files are counted by size: the first rows give bytes and characters a row. Raises :class:`InputError` for a file
    that is not there and no ``examples`` and ``length`` instead of it.
    """
    if recipe.data.world is not None:
        found = Amounts(3000, 4000, 0, *WORLD_TOKENS, WORLD_PROMPT, WORLD_ANSWER, ())
    elif examples is not None and length is not None:
        found = Amounts(examples, pool or 0, 0, length, 0.8, min(200.0, length / 4), length * 0.8, ())
    else:
        found = _of_files(recipe)
    if recipe.data.limit is not None:
        domains = 2 if recipe.data.world is not None else max(1, len({s.domain for s in recipe.data.sources}))
        found = replace(
            found,
            train=min(found.train, recipe.data.limit * domains),
            pool=min(found.pool, recipe.data.limit * domains),
        )
    found = replace(
        found,
        train=found.train if examples is None else examples,
        pool=found.pool if pool is None else pool,
        length=min(found.length, float(recipe.data.max_length)) if length is None else length,
        answer=min(found.answer, float(recipe.eval.max_new_tokens)),
        tasks=tuple(_tasks(recipe)),
    )
    given = sum(1 for _ in recipe.data.queries) * recipe.targets.minimum if queries is None else queries
    return replace(found, given_queries=given, folds=folds)


def _tasks(recipe: Recipe) -> Iterable[Task]:
    for t in recipe.tasks:
        target, held_out = TASKS.get(t.name, (200, 400))
        if t.path is not None and Path(t.path).is_file():
            n = round(_rows_in(Path(t.path)))
            target, held_out = n // 3, n - n // 3
        if getattr(t, "split", "hash") == "held-out":
            target, held_out = 0, target + held_out
        if t.limit is not None:
            target, held_out = min(target, t.limit), min(held_out, t.limit)
        yield Task(
            t.name, target, held_out, t.target is not None, t.arms, getattr(t, "samples", None) or recipe.eval.samples
        )


def _of_files(recipe: Recipe) -> Amounts:
    uses = {"train": 0.0, "pool": 0.0, "pretrain": 0.0}
    characters = rows = 0.0
    for source in recipe.data.sources:
        path = Path(source.path)
        if not path.is_file():
            raise InputError(f"{source.path} is not a file here; to plan without it give --examples and --length")
        n = min(_rows_in(path), source.limit or math.inf)
        shares = {"train": 1.0} if isinstance(source.shares, str) else source.shares
        for use, share in shares.items():
            uses[use] += n * share
        used = n * sum(shares.values())
        rows, characters = rows + used, characters + used * _characters(source)
    length = characters / max(rows, 1.0) / CHARACTERS_PER_TOKEN
    return Amounts(
        round(uses["train"]), round(uses["pool"]), round(uses["pretrain"]), length, 0.8, length * 0.2, length * 0.8, ()
    )


def _rows_in(path: Path) -> float:
    """About how many rows a file holds, from its size and its first rows."""
    some = [row.value for row in islice(iter_rows(path), LOOK) if row.value is not None]
    if not some:
        raise InputError(f"{path}: no row could be read, so its size cannot be planned")
    if len(some) < LOOK:
        return float(len(some))
    if path.name.endswith(".parquet"):
        import pyarrow.parquet as pq

        return float(pq.ParquetFile(path).metadata.num_rows)
    with path.open("rb") as handle:
        head = handle.read(1 << 20)
    read = len(head)
    if path.name.endswith(".gz"):
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        head = unpacker.decompress(head, 1 << 24)
        read -= len(unpacker.unconsumed_tail)
    return os.path.getsize(path) * max(1, head.count(b"\n")) / read


def _characters(source: SourceSettings) -> float:
    """Characters of an example, on average over the first: of its conversation, whatever else its row holds."""
    some = read_records(source.path, schema=source.schema_, domain=source.domain, limit=LOOK, on_error="skip").records
    if not some:
        raise InputError(f"{source.path}: no record could be read, so its length cannot be planned")
    return sum(len(m.content) for record in some for m in record.messages) / len(some)
