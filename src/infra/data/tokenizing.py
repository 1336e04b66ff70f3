"""Records into token sequences with verified loss masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infra.data.chat import Rendered, render_conversation, resolve_template, token_masks, with_system
from infra.data.schema import Record
from infra.data.tokenized import TokenizedExample
from infra.errors import InputError

_BATCH = 64
"""Records rendered and encoded together: enough for the library to use every core, and memory stays flat."""


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """A record that was not tokenised, and why."""

    id: str
    reason: str

    def __str__(self) -> str:
        return f"record {self.id}: {self.reason}"


@dataclass(slots=True)
class TokenizeResult:
    """``template`` names the chat template used; ``truncated`` lists the ids of records cut at the end, when
    asked for."""

    examples: list[TokenizedExample] = field(default_factory=list)
    skipped: list[SkippedRecord] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    template: str = ""


def tokenize(
    records: Iterable[Record],
    tokenizer: Any,
    *,
    max_length: int | None,
    on_error: Literal["raise", "skip"] = "raise",
    system: str | None = None,
    template: str | None = None,
    truncate: Literal["end"] | None = None,
) -> TokenizeResult:
    """Each record's conversation as token ids, with the loss on the assistant's tokens and the end of its turns.

    Args:
        records: conversations that end with the assistant.
        tokenizer: the model's.
        max_length: in tokens; None for no limit. A longer record is an error, and never cut in silence.
        on_error: ``skip`` lists unusable records in ``skipped`` instead of raising.
        system: a system prompt for records without one.
        template: as in :func:`resolve_template`.
        truncate: ``end`` cuts longer records at the end and lists their ids in ``truncated``.

    Returns:
        The examples in order, the template's name, and what was skipped or cut.

    Raises:
        InputError: a record is too long, has no response or an empty one, or cannot be rendered by the template.
    """
    result = TokenizeResult(template=resolve_template(tokenizer, template).name)
    result.examples.extend(
        iter_tokenize(
            records,
            tokenizer,
            max_length=max_length,
            on_error=on_error,
            system=system,
            template=template,
            truncate=truncate,
            result=result,
        )
    )
    return result


def iter_tokenize(
    records: Iterable[Record],
    tokenizer: Any,
    *,
    max_length: int | None,
    on_error: Literal["raise", "skip"] = "raise",
    system: str | None = None,
    template: str | None = None,
    truncate: Literal["end"] | None = None,
    result: TokenizeResult | None = None,
) -> Iterator[TokenizedExample]:
    """The examples of :func:`tokenize`, one at a time and in flat memory.

    Args:
        records: to tokenise, and so are the options as in :func:`tokenize`.
        result: what is skipped or cut is added to it.
    """
    if on_error not in ("raise", "skip") or truncate not in (None, "end"):
        raise InputError(f"on_error is {on_error!r} and truncate {truncate!r}; use raise or skip, and None or 'end'")
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("the tokenizer gives no character offsets; use its fast version (a tokenizer.json)")
    chat = resolve_template(tokenizer, template)
    notes = result if result is not None else TokenizeResult()

    def bad(record: Record, reason: str) -> None:
        if on_error == "raise":
            raise InputError(f"record {record.id}: {reason}")
        notes.skipped.append(SkippedRecord(record.id, reason))

    source = iter(records)
    chunk = list(islice(source, _BATCH))
    while chunk:
        rendered: list[tuple[Record, Rendered]] = []
        for record in chunk:
            try:
                messages = with_system(record.messages, system)
                rendered.append((record, render_conversation(messages, chat, record.tools)))
            except InputError as error:
                bad(record, str(error))
        for (record, text), (ids, offsets) in zip(rendered, _encode([r.text for _, r in rendered], tokenizer)):
            example = _example(record, text, ids, offsets, tokenizer)
            if max_length is not None and len(example) > max_length:
                if truncate is None:
                    bad(
                        record,
                        f"{len(example)} tokens are more than max_length {max_length}; raise it, remove the record, or "
                        "set truncate='end'",
                    )
                    continue
                example = _cut(example, max_length)
                notes.truncated.append(record.id)
            if not example.loss_mask.any():
                bad(record, f"no response token is left within max_length {max_length}; every token is masked")
                continue
            yield example
        chunk = list(islice(source, _BATCH))


def _encode(texts: list[str], tokenizer: Any) -> Iterator[tuple[Sequence[int], NDArray[np.int32]]]:
    """Ids and offsets of each text, no special tokens added, nothing cut or padded."""
    core = tokenizer.backend_tokenizer
    if core.truncation is None and core.padding is None:  # the same without building what is not used
        for encoding in core.encode_batch(texts, add_special_tokens=False):
            yield encoding.ids, _offsets(encoding.offsets)
        return
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"]):
        yield ids, _offsets(offsets)


def _offsets(offsets: Sequence[tuple[int, int]]) -> NDArray[np.int32]:
    flat = np.fromiter(chain.from_iterable(offsets), dtype=np.int32, count=2 * len(offsets))
    return flat.reshape(-1, 2)


def _example(
    record: Record,
    rendered: Rendered,
    ids: Sequence[int],
    offsets: NDArray[np.int32],
    tokenizer: Any,
) -> TokenizedExample:
    """A token is under the loss when it begins inside a span; where one would straddle a border, the pieces
    between borders are encoded apart, as they are when the model generates."""
    starts, ends = offsets.T.copy()
    if any(((starts < border) & (border < ends)).any() for border in chain.from_iterable(rendered.spans)):
        ids, offsets = _encode_apart(rendered, tokenizer)
    loss_mask, content_mask = token_masks(rendered, offsets)
    return TokenizedExample(
        id=record.id,
        input_ids=np.asarray(ids, dtype=np.int64),
        loss_mask=loss_mask,
        offsets=offsets,
        text=rendered.text,
        response_start=rendered.response_start,
        weight=record.weight,
        content_mask=content_mask,
    )


def _encode_apart(rendered: Rendered, tokenizer: Any) -> tuple[list[int], NDArray[np.int32]]:
    cuts = sorted({0, len(rendered.text), *chain.from_iterable(rendered.spans)})
    ids: list[int] = []
    parts = []
    pieces = [rendered.text[start:end] for start, end in pairwise(cuts)]
    for start, (piece, offsets) in zip(cuts, _encode(pieces, tokenizer)):
        ids.extend(piece)
        parts.append(offsets + np.int32(start))
    return ids, np.concatenate(parts)


def _cut(example: TokenizedExample, length: int) -> TokenizedExample:
    return TokenizedExample(
        id=example.id,
        input_ids=example.input_ids[:length],
        loss_mask=example.loss_mask[:length],
        offsets=example.offsets[:length],
        text=example.text,
        response_start=example.response_start,
        weight=example.weight,
        token_weights=None if example.token_weights is None else example.token_weights[:length],
        content_mask=None if example.content_mask is None else example.content_mask[:length],
    )
