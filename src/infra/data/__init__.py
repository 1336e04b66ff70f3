"""Examples and queries in one schema: read, written, split, labelled, rendered, tokenised and packed."""

from infra.data.adapters import ADAPTERS, Adapter, detect, get_adapter
from infra.data.chat import (
    ChatTemplate,
    Rendered,
    render_conversation,
    render_prompt,
    resolve_template,
    token_masks,
    with_system,
)
from infra.data.difficulty import (
    difficulty_bins,
    text_difficulty,
    with_attributes,
)
from infra.data.fields import boxed
from infra.data.named import is_named_data, named_records
from infra.data.overlap import Duplicate, Overlap, drop, duplicates, overlaps
from infra.data.packing import (
    PackedBatch,
    collate,
    collate_packed,
    first_fit_decreasing,
    loss_weights,
    pack,
)
from infra.data.reading import BadRow, Place, ReadResult, iter_records, read_records
from infra.data.schema import Message, Record, Span, ToolCall, record_id
from infra.data.splits import normalise, split_of
from infra.data.summary import DataSummary, describe, summarise, summary_figure, summary_table
from infra.data.target_name import TargetName, is_whole, whole_targets
from infra.data.thinking import standard_thinking
from infra.data.tokenized import Counted, TokenizedExample
from infra.data.tokenized_file import TokenizedFile, write_tokenized
from infra.data.tokenizing import SkippedRecord, TokenizeResult, iter_tokenize, tokenize
from infra.data.writing import (
    record_from_dict,
    record_to_dict,
    records_from_table,
    records_to_table,
    to_llamafactory,
    write_records,
)

__all__ = [
    "ADAPTERS",
    "Adapter",
    "BadRow",
    "ChatTemplate",
    "Counted",
    "DataSummary",
    "Duplicate",
    "Message",
    "Overlap",
    "PackedBatch",
    "Place",
    "ReadResult",
    "Record",
    "Rendered",
    "SkippedRecord",
    "Span",
    "TargetName",
    "TokenizeResult",
    "TokenizedExample",
    "TokenizedFile",
    "ToolCall",
    "boxed",
    "collate",
    "collate_packed",
    "describe",
    "detect",
    "difficulty_bins",
    "drop",
    "duplicates",
    "first_fit_decreasing",
    "get_adapter",
    "is_named_data",
    "is_whole",
    "iter_records",
    "iter_tokenize",
    "loss_weights",
    "named_records",
    "normalise",
    "overlaps",
    "pack",
    "read_records",
    "record_from_dict",
    "record_id",
    "record_to_dict",
    "records_from_table",
    "records_to_table",
    "render_conversation",
    "render_prompt",
    "resolve_template",
    "split_of",
    "standard_thinking",
    "summarise",
    "summary_figure",
    "summary_table",
    "text_difficulty",
    "to_llamafactory",
    "token_masks",
    "tokenize",
    "whole_targets",
    "with_attributes",
    "with_system",
    "write_records",
    "write_tokenized",
]
