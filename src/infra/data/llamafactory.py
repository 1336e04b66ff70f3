"""Training files declared to LLaMA-Factory: which of their columns hold what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.data.adapters import detect
from infra.data.adapters.pairs import INPUTS, QUESTIONS, RESPONSES
from infra.data.rows import iter_rows
from infra.store import write_json

_OPENAI_TAGS = {
    **{"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    **{"system_tag": "system", "observation_tag": "tool"},
}


def llamafactory_entry(file: Path) -> dict[str, Any] | None:
    """The entry of ``dataset_info.json`` for a file of messages, of ShareGPT's form or of question and response; None
    for a file of another schema, which LLaMA-Factory would need written anew."""
    row = next((row.value for row in iter_rows(file) if row.value is not None), None)
    adapter = detect(row or {})
    if row is None or adapter is None:
        return None
    entry: dict[str, Any] = {"file_name": file.name}
    system = {"system": "system"} if isinstance(row.get("system"), str) else {}
    if adapter.name in ("messages", "conversations", "record"):
        column = "conversations" if adapter.name == "conversations" else "messages"
        return {**entry, "formatting": "sharegpt", "columns": {"messages": column, **system}, "tags": _OPENAI_TAGS}
    if adapter.name == "sharegpt":
        # its own tags are human and gpt; some data sets say user and assistant in the same form
        named = {turn.get("from") for turn in row["conversations"]} & {"user", "assistant"}
        tags = {"tags": {**_OPENAI_TAGS, "role_tag": "from", "content_tag": "value"}} if named else {}
        return {**entry, "formatting": "sharegpt", "columns": {"messages": "conversations", **system}, **tags}
    question, _, response = adapter.name.partition("/")
    if (
        question in QUESTIONS
        and response in RESPONSES
        and isinstance(row[question], str)
        and isinstance(row[response], str)
    ):
        more = next((name for name in INPUTS if question == "instruction" and isinstance(row.get(name), str)), None)
        extra = {} if more is None else {"query": more}
        return {**entry, "columns": {"prompt": question, "response": response, **extra, **system}}
    return None


def declare_data_sets(files: Mapping[str, Path], info: Path, *, replace: bool) -> None:
    """Write ``dataset_info.json`` with an entry for each named file that LLaMA-Factory can read.

    Unless it is to be replaced, one that is there already stays as it is.
    """
    entries = {
        name: {**entry, "file_name": file.relative_to(info.parent).as_posix()}
        for name, file in files.items()
        if file.suffix != ".gz" and (entry := llamafactory_entry(file)) is not None
    }
    if entries and (replace or not info.exists()):
        write_json(info, entries)
