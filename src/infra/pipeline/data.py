"""Step `records`: training data, pool and benchmark problems in one schema, split, checked for leaks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from infra.data import (
    ReadResult,
    Record,
    difficulty_bins,
    duplicates,
    normalise,
    overlaps,
    read_records,
    records_from_table,
    records_to_table,
    split_of,
    text_difficulty,
    with_attributes,
    with_system,
)
from infra.errors import InputError
from infra.evals import get_task, judge_difficulty
from infra.models.generation import OpenAIServer
from infra.pipeline.origins import Origins, labels_of
from infra.pipeline.recipe import Recipe
from infra.pipeline.settings import SourceSettings, TaskSettings
from infra.pipeline.stage import Context
from infra.pipeline.step import Job, Step
from infra.plugins import file_of
from infra.store import write_json

USES = ("train", "pool", "pretrain")


def save_records(records: Sequence[Record], path: Path) -> None:
    """One Parquet file of records, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(records_to_table(records), path, compression="zstd", row_group_size=512)


def load_records(path: Path) -> list[Record]:
    """The records of :func:`save_records`."""
    return records_from_table(pq.read_table(path))


def share_of(record: Record, shares: Mapping[Any, float] | str) -> str | None:
    """The use a record falls to, by hash of its question: stable under adding or removing other records.

    With shares ``own`` it is the record's ``split``, where that is a use.
    """
    if isinstance(shares, str):
        own = record.attributes.get("split")
        return str(own) if own in USES else None
    point = int(hashlib.sha256(("share:" + record.question).encode("utf-8", "surrogatepass")).hexdigest()[:12], 16)
    place = point / 16**12
    for use, share in shares.items():
        if place < share:
            return str(use)
        place -= share
    return None


def make_records(context: Context) -> None:
    """Write train, pool, pretrain and problems/<task> Parquet files, and what was dropped or skipped and why."""
    recipe = context.recipe
    problems = {t.label: task_problems(recipe, t) for t in recipe.tasks}
    skipped: list[dict[str, object]] = []
    sets, origins = _read_sets(recipe, skipped)
    for use in USES:
        # a repeated record would be trained on twice and counted as two
        copies = {d.id: f"a copy of {d.of}" for d in duplicates(sets[use]) if d.kind == "record"}
        sets[use] = origins.without(use, sets[use], copies)
    asked = {normalise(r.question) for r in sets["train"]}
    repeated = [r.id for r in sets["pool"] if normalise(r.question) in asked]
    sets["pool"] = origins.without("pool", sets["pool"], dict.fromkeys(repeated, "its question is trained on"))
    dropped = []
    for use in USES:
        leaks = overlaps(sets[use], [p for ps in problems.values() for p in ps], n=recipe.data.ngram)
        dropped += [{"set": use, "id": leak.train_id, "problem": leak.eval_id, "kind": leak.kind} for leak in leaks]
        gone = {leak.train_id: f"leaks into the evaluation problem {leak.eval_id} ({leak.kind})" for leak in leaks}
        sets[use] = origins.without(use, sets[use], gone)
    label_levels_by(sets, recipe, context.beside("judge.jsonl"), "text-estimate")
    for use in ("train", "pool"):
        if recipe.data.limit is not None:
            kept = {r.id for r in first_per_domain(sets[use], recipe.data.limit)}
            beyond = [r.id for r in sets[use] if r.id not in kept]
            sets[use] = origins.without(use, sets[use], dict.fromkeys(beyond, "beyond data.limit"))
        if not sets[use] and (use == "train" or (recipe.tasks and recipe.arms.names)):
            raise InputError(f"no {use} records: give a source a share of '{use}' in data.sources")
    agreement = label_levels_by(sets, recipe, context.beside("judge.jsonl"), "judge")
    for use, records in sets.items():
        if records:
            save_records(records, context.records(use))
    for name, records in problems.items():
        records = under_system(records, recipe.eval.system, sets["train"])
        save_records(records, context.problems(name))
    origins.table().to_parquet(context.origins, index=False)
    write_json(context.dropped, {"leaks": dropped, "skipped": skipped})
    counts = {use: _counts(records) for use, records in sets.items()}
    write_json(context.counts, {**counts, "judge": agreement} if agreement else counts)


def _settings(job: Job) -> tuple[str, ...]:
    own = ("world", "sources", "limit", "on_error", "difficulty", "judge", "ngram")
    judged = ("seed",) if job.recipe.data.judge is not None else ()
    return (*(f"data.{name}" for name in own), "tasks", "eval.instruct", "eval.system", *judged)


def _files(job: Job) -> list[str]:
    """Data, benchmarks' problems, and the users' own files that define a benchmark or an adapter."""
    sources, tasks = job.recipe.data.origins, job.recipe.tasks
    named = [*(t.name for t in tasks), *(s.schema_ for s in sources)]
    own = [file for name in named if (file := file_of(name)) is not None]
    return [s.path for s in sources] + [t.path for t in tasks if t.path] + own


RECORDS = Step(
    "records",
    make_records,
    settings=_settings,
    unhashed=("arms.names", "data.origins"),  # whether a pool is needed; what world and sources come to
    files=_files,
)


def _read_sets(recipe: Recipe, skipped: list[dict[str, object]]) -> tuple[dict[str, list[Record]], Origins]:
    """The records of every source by use. Raises InputError where two records that differ have one id."""
    sets: dict[str, list[Record]] = {use: [] for use in USES}
    origins, sources = Origins(), recipe.data.origins
    for number, (source, label) in enumerate(zip(sources, labels_of(sources))):
        result = read_source(source, recipe, skipped, label)
        for record, place in zip_longest(with_level(result.records, source.level), result.places):
            use = share_of(record, source.shares)
            if origins.add(record, number, source, place, use):
                sets[str(use)].append(record)
    return sets, origins


def read_source(
    source: SourceSettings, recipe: Recipe, skipped: list[dict[str, object]], label: str | None = None
) -> ReadResult:
    """Records of one file or hub data set, each with a response. Rows passed over are added to ``skipped``."""
    result = read_records(
        source.path,
        schema=source.schema_,
        domain=source.domain,
        source=source.source,
        limit=source.limit,
        on_error=recipe.data.on_error,
        ids=source.ids,
        label=label,
    )
    skipped.extend(
        {"file": b.file, "line": b.line, "id": b.id, "field": b.field, "reason": b.reason} for b in result.skipped
    )
    for record in result.records:
        if record.response is None:
            raise InputError(f"{source.path}: record {record.id} has no assistant turn; give a file with responses")
    return result


def task_problems(recipe: Recipe, settings: TaskSettings) -> list[Record]:
    """A task's problems with their split, limited per split when the recipe says so."""
    task = get_task(settings.name, path=settings.path)
    options: dict[str, Any] = dict(settings.options)
    problems = task.load(**options)
    out: list[Record] = []
    kept: Counter[str] = Counter()
    for problem in problems:
        split = str(problem.attributes.get("split") or split_of(problem.question))
        split = "held-out" if settings.split == "held-out" else split
        kept[split] += 1
        if settings.limit is None or kept[split] <= settings.limit:
            asked = task.prompt(problem) if recipe.eval.instruct else problem.prompt
            reference = problem.messages[len(problem.prompt) :]
            attributes = {**problem.attributes, "split": split, "task": settings.label}
            out.append(replace(problem, messages=(*asked, *reference), attributes=attributes))
    if not out:
        raise InputError(f"task {settings.name} has no problems; check tasks.path in the recipe")
    return out


def under_system(problems: list[Record], system: str | None, train: Sequence[Record]) -> list[Record]:
    """Problems under the recipe's system prompt; ``train`` takes the one most frequent in the training data."""
    if system == "train":
        used = Counter(r.messages[0].content for r in train if r.messages and r.messages[0].role == "system")
        if not used:
            raise InputError("eval.system is 'train', and no training record has a system prompt; leave it out")
        system = used.most_common(1)[0][0]
    return [replace(p, messages=with_system(p.messages, system)) for p in problems]


def with_level(records: Sequence[Record], level: int | None) -> list[Record]:
    """The records, where ``level`` is given with that difficulty in place of none."""
    if level is None:
        return list(records)
    return [with_attributes(r, {"difficulty": level}) if r.attributes.get("difficulty") is None else r for r in records]


def first_per_domain(records: Sequence[Record], limit: int | None) -> list[Record]:
    """``limit`` records of each domain, in order: the first of each source, so that the sources keep their shares."""
    if limit is None:
        return list(records)
    sizes = Counter((r.domain, r.source) for r in records)
    seen: Counter[tuple[str, str]] = Counter()
    places: dict[str, list[tuple[float, int]]] = {}
    for number, record in enumerate(records):
        key = (record.domain, record.source)
        places.setdefault(record.domain, []).append(((seen[key] + 0.5) / sizes[key], number))
        seen[key] += 1
    kept = sorted(number for found in places.values() for _, number in sorted(found)[:limit])
    return [records[number] for number in kept]


def label_levels_by(
    sets: dict[str, list[Record]], recipe: Recipe, asked: Path, how: Literal["text-estimate", "judge"]
) -> dict[str, object]:
    """Give the domains that ask for it levels 1 to 5: quantiles of a label over training data and pool together.

    The label stays beside the level (``difficulty_judge``), and so does a level of the data's own, as
    ``difficulty_native``. A judge's answers are kept in ``asked``. Returns how well its votes agree, per domain.
    """
    agreement: dict[str, object] = {}
    for domain, wanted in recipe.data.difficulty.items():
        if wanted != how:
            continue
        both = [*sets["train"], *sets["pool"]]
        mine = [i for i, r in enumerate(both) if r.domain == domain]
        if not mine:
            raise InputError(
                f"data.difficulty names domain '{domain}', and no record has it; the domains are "
                f"{', '.join(sorted({r.domain for r in both}))}"
            )
        if how == "judge":
            labelled, agreement[domain] = _judged([both[i] for i in mine], recipe, asked)
            values = [float(r.attributes["difficulty_judge"] or 0) for r in labelled]
        else:
            labelled = [both[i] for i in mine]
            values = [text_difficulty(r) for r in labelled]
        for i, record, level in zip(mine, labelled, difficulty_bins(values, 5)):
            native = record.attributes.get("difficulty")
            kept = {} if native is None else {"difficulty_native": native}
            both[i] = with_attributes(record, {**kept, "difficulty": level})
        sets["train"], sets["pool"] = both[: len(sets["train"])], both[len(sets["train"]) :]
    return agreement


def _judged(records: list[Record], recipe: Recipe, asked: Path) -> tuple[list[Record], dict[str, object]]:
    """The records with a judge's rating. Its answers are kept in ``asked`` and never asked for again."""
    judge = recipe.data.judge
    assert judge is not None
    labelled, ratings = judge_difficulty(
        records,
        OpenAIServer(judge.server, judge.model),
        cache_file=asked,
        votes=judge.votes,
        temperature=judge.temperature,
        max_new_tokens=judge.max_new_tokens,
        seed=recipe.seed,
    )
    unrated = [r.id for r in labelled if "difficulty_judge" not in r.attributes]
    if unrated:
        raise InputError(
            f"the judge gave no readable rating for {len(unrated)} records, record {unrated[0]} among them; raise "
            "data.judge.max_new_tokens or votes, or choose another judge"
        )
    return labelled, {"n": len(labelled), "unreadable_votes": ratings.unread, "alpha": ratings.alpha}


def _counts(records: Sequence[Record]) -> dict[str, object]:
    by_level = Counter(f"{r.domain}:{r.attributes.get('difficulty')}" for r in records)
    return {
        "n": len(records),
        "by_domain": dict(Counter(r.domain for r in records)),
        "by_level": dict(sorted(by_level.items())),
    }
