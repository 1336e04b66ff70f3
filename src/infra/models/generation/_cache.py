"""Generations on disk: one JSON line each, appended as they come, found again by what produced them.

Example line::

    {"key": "5f0c...", "prompt_id": "r12", "index": 0, "text": "..", "n_tokens": 41, "finish": "stop", "check": "9a..."}

``check`` is the hash of the rest of the line, so that a damaged one is never used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from infra.errors import ArtifactError
from infra.models.generation._types import (
    Generation,
    Generator,
    OnResult,
    Prompt,
    Sampling,
    check_prompts,
    content_hash,
    in_order,
)

SYNC_EVERY_S = 1.0


def generation_key(identity: str, prompt: Prompt, sampling: Sampling, seed: int, index: int) -> str:
    """SHA-256 over the generator's identity, prompt content, sampling and seed, and sample index. ``n`` does not enter:
    drawing more samples later keeps the first ones."""
    body = [
        identity,
        content_hash(prompt),
        sampling.temperature,
        sampling.top_p,
        sampling.max_new_tokens,
        seed,
        index,
    ]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def read_cache(path: Path) -> tuple[dict[str, Generation], int]:
    """Generations by key, and the length in bytes of the file's whole lines.

    A last line without its newline was torn by a kill and is left out. Raises ``ArtifactError`` for a
    damaged line anywhere else.
    """
    if not path.exists():
        return {}, 0
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    found: dict[str, Generation] = {}
    for number, line in enumerate(data[:whole].splitlines(), 1):
        try:
            row = json.loads(line)
            if row.get("check") != _check(row):
                raise ValueError("its check sum differs")
            found[row["key"]] = Generation(row["prompt_id"], row["index"], row["text"], row["n_tokens"], row["finish"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(
                f"{path}, line {number}: not a cached generation ({error}); delete that line, or the "
                "file to redo it all"
            ) from error
    return found, whole


def _check(row: dict[str, object]) -> str:
    """16 hex digits of SHA-256 over a line's other fields."""
    body = {name: value for name, value in row.items() if name != "check"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


class CacheWriter:
    """Appends lines under an exclusive lock; each is in the kernel's hands at once and on disk within a
    second.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._guard = threading.Lock()
        self._synced = time.monotonic()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise ArtifactError(f"{path} is in use by another run; wait for it or use another folder") from error

    def truncate(self, length: int) -> None:
        """Cut a torn last line away."""
        os.ftruncate(self._file, length)

    def append(self, key: str, generation: Generation) -> None:
        """Write one line whole."""
        row = {
            "key": key,
            "prompt_id": generation.prompt_id,
            "index": generation.index,
            "text": generation.text,
            "n_tokens": generation.n_tokens,
            "finish": generation.finish,
        }
        line = (json.dumps({**row, "check": _check(row)}) + "\n").encode()
        with self._guard:
            view = memoryview(line)
            while view:
                view = view[os.write(self._file, view) :]
            if time.monotonic() - self._synced > SYNC_EVERY_S:
                os.fsync(self._file)
                self._synced = time.monotonic()

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.fsync(self._file)
        os.close(self._file)


def generate_cached(
    generator: Generator,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    seed: int,
    cache_file: Path | str,
    model_hash: str | None = None,
    on_result: OnResult | None = None,
) -> list[Generation]:
    """All ``len(prompts) * sampling.n`` generations, ordered by prompt and sample; only the missing are
    generated.

    A cached generation counts for the same ``generator.identity`` and, where it is given, the same ``model_hash``.
    ``on_result`` is called for new generations only.
    Raises ``ArtifactError`` when the cache is damaged or in use, and whatever the generator raises; what
    had finished by then is kept.
    """
    check_prompts(prompts)
    path = Path(cache_file)
    name = generator.identity if model_hash is None else f"{model_hash} {generator.identity}"
    by_id = {p.id: p for p in prompts}
    with CacheWriter(path) as writer:
        cached, whole = read_cache(path)
        writer.truncate(whole)
        known: dict[tuple[str, int], Generation] = {}
        for prompt in prompts:
            for index in range(sampling.n):
                hit = cached.get(generation_key(name, prompt, sampling, seed, index))
                if hit is not None:
                    known[prompt.id, index] = Generation(prompt.id, index, hit.text, hit.n_tokens, hit.finish)

        def keep(generation: Generation) -> None:
            prompt = by_id[generation.prompt_id]
            writer.append(generation_key(name, prompt, sampling, seed, generation.index), generation)
            if on_result is not None:
                on_result(generation)

        new: list[Generation] = []
        if len(known) < len(prompts) * sampling.n:
            new = generator.generate(prompts, sampling, seed, keep, set(known))
    return in_order(prompts, [*known.values(), *new])
