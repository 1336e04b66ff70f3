"""LiveCodeBench code generation (lite): contest problems with dates, to be solved by whole programs or
methods.

Example row (test cases are JSON strings; private ones are base64 of zlib of a pickled JSON string)::

    {"question_title": "A. Short Sort", "question_content": "There are three cards ...", "platform":
    "codeforces",
     "question_id": "1873_A", "contest_id": "1873", "contest_date": "2023-08-21T00:00:00", "starter_code": "",
     "difficulty": "easy", "public_test_cases": "[{\\"input\\": \\"6\\\\nabc\\", \\"output\\": \\"YES\\",
     \\"testtype\\": \\"stdin\\"}]", "private_test_cases": "eJx...", "metadata": "{}"}

Options: ``release`` (``release_v1`` .. ``release_v6`` cumulative, ``v3`` one file alone, ``v4_v6`` a
slice), ``start`` and ``end`` (contest dates, ISO, both included), ``difficulty`` (easy, medium, hard) and
``platform``. A local path is one file, or a folder with ``test.jsonl``, ``test2.jsonl`` and so on.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickletools
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.data.schema import Message, Record
from infra.errors import InputError
from infra.evals.tasks._task import Task
from infra.evals.tasks.mbpp import FENCED

HUB = "livecodebench/code_generation_lite"
LEVELS = {"easy": 1, "medium": 2, "hard": 3}
RELEASES = 6
MAX_BYTES = 1 << 28
"""Unpacked test cases of one problem; the largest published are a few MB."""

_TEXT_OPCODES = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_OPCODES = _TEXT_OPCODES | {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}
OPTIONS: dict[str, Any] = {"release": "release_v6", "start": None, "end": None, "difficulty": None, "platform": None}


def _pickled_text(data: bytes) -> str:
    """The string that a pickle holds, by reading its opcodes: nothing is unpickled.

    An unpickler allocates what a pickle asks for, gigabytes for a few bytes. Raises ``ValueError`` for a pickle of
    anything but one string.
    """
    found: list[str] = []
    for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"the pickle holds {opcode.name}, not just a string")
        if opcode.name in _TEXT_OPCODES:
            found.append(str(argument))
    if len(found) != 1:
        raise ValueError(f"the pickle holds {len(found)} strings, not one")
    return found[0]


def _inflated(data: bytes) -> bytes:
    """zlib's content, up to MAX_BYTES."""
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, MAX_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"{len(data):,} bytes unpack to more than the limit of {MAX_BYTES:,}")
    return unpacked


def decode_tests(text: str, where: str) -> list[dict[str, str]]:
    """Test cases out of plain JSON or of base64(zlib(pickle(JSON))).

    Nothing but a string may be in the pickle. Raises ``InputError`` naming ``where``.
    """
    try:
        try:
            cases = json.loads(text)
        except ValueError:
            cases = json.loads(_pickled_text(_inflated(base64.b64decode(text, validate=True))))
        return [{k: str(case[k]) for k in ("input", "output", "testtype")} for case in cases]
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error, binascii.Error) as error:
        raise InputError(
            f"{where}: test cases cannot be decoded ({error}); take the file as published, or leave the row out"
        ) from error


def files_of(release: str) -> list[str]:
    """Names of the files a release tag stands for. Raises ``InputError`` for an unknown tag."""
    names = ["test.jsonl", *(f"test{i}.jsonl" for i in range(2, RELEASES + 1))]
    match = re.fullmatch(r"(release_)?v(\d)(?:_v(\d))?", release.replace("release_latest", f"release_v{RELEASES}"))
    if match is not None and not (match[1] and match[3]):
        first, last = (1, int(match[2])) if match[1] else (int(match[2]), int(match[3] or match[2]))
        if 1 <= first <= last <= RELEASES:
            return names[first - 1 : last]
    raise InputError(
        f"livecodebench has no release {release!r}; use release_v1 to release_v{RELEASES} (all up to there), "
        "v3 (one file) or v4_v6 (a slice)"
    )


def convert(row: dict[str, Any], where: str) -> Record:
    """One problem. Raises ``InputError`` naming ``where`` for a missing field or tests that cannot be
    decoded.
    """
    try:
        cases = decode_tests(row["public_test_cases"], where) + decode_tests(row["private_test_cases"], where)
        name = json.loads(row["metadata"] or "{}").get("func_name")
        date = datetime.fromisoformat(row["contest_date"]).date().isoformat()
        starter = row["starter_code"]
        content = row["question_content"].strip()
        attributes = {
            "difficulty": LEVELS.get(row["difficulty"]),
            "level": row["difficulty"],
            "platform": row["platform"],
            "date": date,
            "month": date[:7],
            "title": row["question_title"],
        }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: not a LiveCodeBench problem ({type(error).__name__}: {error})") from error
    plain = [{"input": case["input"], "output": case["output"]} for case in cases]
    tests: dict[str, Any] = {"kind": "stdin", "cases": plain}
    ask = "Write a Python program that reads the input from standard input and prints the answer."
    if name is not None:
        tests = {"kind": "functional", "entry_point": name, "cases": plain}
        ask = f"Complete this class:\n\n```python\n{starter}\n```"
    messages = (Message("user", f"{content}\n\n{ask}"),)
    return Record(str(row["question_id"]), messages, "code", "livecodebench", None, tests, attributes)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path}, line {number}", json.loads(line)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the downloaded file or folder") from error
    except ValueError as error:
        raise InputError(f"{path}: a line is not JSON ({error}); the file may be cut short") from error


def _load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
    names = files_of(options["release"])
    if path is None:
        files = [_downloaded(name) for name in names]
    else:
        files = [Path(path) / name for name in names] if Path(path).is_dir() else [Path(path)]
    out = []
    for file in files:
        for where, row in _rows(file):
            if _wanted(row, options, where):
                out.append(convert(row, where))
    return out


def _downloaded(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB, name, repo_type="dataset"))
    except Exception as error:
        raise InputError(
            f"{HUB}: {name} cannot be downloaded ({str(error).splitlines()[0]}); check the network, or give a local "
            "file with livecodebench=FILE"
        ) from error


def _wanted(row: dict[str, Any], options: dict[str, Any], where: str) -> bool:
    for field in ("difficulty", "platform"):
        if options[field] is not None and row.get(field) != options[field]:
            return False
    day = str(row.get("contest_date", ""))[:10]
    return (options["start"] is None or day >= options["start"]) and (options["end"] is None or day <= options["end"])


LIVECODEBENCH = Task("livecodebench", "code", _load, HUB, "lite", FENCED, options=OPTIONS)
