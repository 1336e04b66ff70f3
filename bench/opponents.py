"""Another library in a process and an environment of its own, told what to run and timed by itself.

The worker reads one job a line (``fit``, ``token_scores``, ``two_targets``, ``queries``) and answers one
JSON line with seconds, so that jobs of both sides can take turns in one run.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from bench.timing import Elsewhere

from infra.data.tokenized import TokenizedExample

WORKERS = {"kronfluence": "kronfluence_worker.py", "bergson": "bergson_worker.py"}


class Opponent:
    """A running worker; a context manager. ``lost`` lists the jobs it could not do, with its own words; ``peak`` is the
    most memory it has had, in bytes."""

    def __init__(
        self,
        name: str,
        python: str,
        model: Any,
        train: Sequence[TokenizedExample],
        queries: Sequence[TokenizedExample],
        threads: int,
        rank: int,
        precision: str = "highest",
        tokens: int = 8192,
    ) -> None:
        self.name, self.lost, self.peak = name, list[str](), 0
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        model.save_pretrained(folder / "model")
        arrays = {}
        for kind, items in (("train", train), ("query", queries)):
            arrays[f"{kind}_ids"] = np.concatenate([e.input_ids for e in items])
            arrays[f"{kind}_loss"] = np.concatenate([e.loss_mask for e in items])
            arrays[f"{kind}_lengths"] = np.array([len(e) for e in items])
        np.savez(folder / "data.npz", **arrays)
        worker = Path(__file__).with_name(WORKERS[name])
        command = [python, str(worker), str(folder), str(threads), str(rank), precision, str(tokens)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, job: str) -> Elsewhere:
        """What the library takes for ``job``; infinity where it failed, which is then listed as lost."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._process.poll() is None:
            self._process.stdin.write(job + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("{"):
                    answer = json.loads(line)
                    if "error" not in answer:
                        self.peak = max(self.peak, int(answer["peak"]))
                        return Elsewhere(float(answer["seconds"]), float(answer["cpu"]))
                    self.lost.append(f"{self.name} {job}: {answer['error']}")
                    return Elsewhere(float("inf"), 0.0)
        self.lost.append(f"{self.name} {job}: the worker stopped")
        return Elsewhere(float("inf"), 0.0)

    def __enter__(self) -> Opponent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._folder.cleanup()
