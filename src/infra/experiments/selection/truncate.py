"""Cutting steps of chosen behaviours out of chains of thought, and the matched random cut that controls for
length.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.data.schema import Record, Span, record_id
from infra.errors import InputError

PROTECTED = ("final_answer",)
"""Steps that carry one of these labels are never cut."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """Two data sets of one length: ``cut`` lacks the chosen behaviours, ``control`` as many random steps.

    Both keep the order of the input; records in which nothing was cut are the same in both.
    """

    cut: tuple[Record, ...]
    control: tuple[Record, ...]
    manifest: dict[str, Any]


def truncate(
    records: Sequence[Record],
    behaviours: Sequence[str],
    *,
    seed: int = 0,
    protected: Sequence[str] = PROTECTED,
    length: Callable[[str], int] = len,
    tries: int = 64,
) -> Truncation:
    """Cut every step that carries one of ``behaviours``, and for the control as many steps drawn at random.

    The control cuts the same number of steps of the same record, drawn among all that are not protected; of
    ``tries`` draws the one whose ``length`` (characters, or tokens if a tokenizer's count is given) is
    nearest is kept. Records are named anew by their content, ``attributes['cut_from']`` keeps the old id,
    and spans move with the text.

    Raises:
        InputError: no behaviour named, spans out of the text or overlapping, or a cut that changes nothing.
    """
    if not behaviours:
        raise InputError("name at least one behaviour to cut.")
    cut: list[Record] = []
    control: list[Record] = []
    counts: Counter[str] = Counter()
    removed = Counter[str]()
    for record in records:
        steps = checked_spans(record)
        free = [s for s in steps if not set(s.labels) & set(protected)]
        chosen = [s for s in free if set(s.labels) & set(behaviours)]
        if not chosen:
            cut.append(record)
            control.append(record)
            continue
        text = record.response or ""
        matched = _nearest(text, free, chosen, length, tries, _stream(seed, record.id))
        cut.append(without(record, chosen))
        control.append(without(record, matched))
        counts["records"] += 1
        counts["steps"] += len(chosen)
        for name, gone in (("cut", chosen), ("control", matched)):
            removed[name] += sum(length(text[s.start : s.end]) for s in gone)
        counts.update(f"behaviour:{b}" for s in chosen for b in s.labels if b in behaviours)
    if not counts["records"]:
        raise InputError(f"no record has a step of {list(behaviours)} that may be cut, so nothing would change.")
    manifest = {
        "strategy": "truncate",
        "behaviours": list(behaviours),
        "protected": list(protected),
        "seed": seed,
        "n_records": len(records),
        "n_changed": counts["records"],
        "n_steps": counts["steps"],
        "steps_by_behaviour": {b: counts[f"behaviour:{b}"] for b in behaviours},
        "length_removed": removed["cut"],
        "length_removed_by_control": removed["control"],
    }
    return Truncation(tuple(cut), tuple(control), manifest)


def checked_spans(record: Record) -> list[Span]:
    """The record's spans in order of start.

    Raises:
        InputError: no response, or spans that leave the text or overlap.
    """
    text = record.response
    if text is None:
        raise InputError(f"record '{record.id}' has no response to cut steps from.")
    spans = sorted(record.spans, key=lambda s: s.start)
    end = 0
    for span in spans:
        if not end <= span.start <= span.end <= len(text):
            raise InputError(
                f"record '{record.id}': span [{span.start}, {span.end}) overlaps another or leaves the response of "
                f"{len(text)} characters; segment it again."
            )
        end = span.end
    return spans


def without(record: Record, gone: Sequence[Span]) -> Record:
    """The record without the text of the spans ``gone``; the other spans keep their text and labels."""
    text = record.response or ""
    dropped = {(s.start, s.end) for s in gone}
    kept = np.ones(len(text), dtype=bool)
    for start, end in dropped:
        kept[start:end] = False
    moved = np.concatenate([[0], np.cumsum(kept)])
    shorter = "".join(c for c, keep in zip(text, kept) if keep)
    spans = tuple(
        Span(int(moved[s.start]), int(moved[s.end]), s.labels) for s in record.spans if (s.start, s.end) not in dropped
    )
    messages = (*record.messages[:-1], replace(record.messages[-1], content=shorter))
    return replace(
        record,
        id=record_id(messages, record.answer, record.tests, record.tools),
        messages=messages,
        spans=spans,
        attributes={**record.attributes, "cut_from": record.id},
    )


def _nearest(
    text: str,
    free: Sequence[Span],
    chosen: Sequence[Span],
    length: Callable[[str], int],
    tries: int,
    rng: np.random.Generator,
) -> list[Span]:
    """As many of ``free`` as ``chosen`` has, drawn at random, of nearly the same length together."""
    lengths = np.array([length(text[s.start : s.end]) for s in free], dtype=np.float64)
    goal = sum(length(text[s.start : s.end]) for s in chosen)
    draws = [np.sort(rng.permutation(len(free))[: len(chosen)]) for _ in range(tries)]
    best = min(draws, key=lambda d: abs(float(lengths[d].sum()) - goal))
    return [free[i] for i in best]


def _stream(seed: int, key: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:16], "big"))
