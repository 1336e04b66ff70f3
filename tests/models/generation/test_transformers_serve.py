"""The whole evaluation against ``transformers serve``, killed and restarted in the middle.

Needs the packages that ``transformers serve`` asks for: ``pip install "transformers[serving]"``. Marked ``parity``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from infra.evals import EvalSettings, run_eval
from infra.models.generation import OpenAIServer, Sampling, read_cache
from infra.world import BASE_MODEL

pytestmark = pytest.mark.parity
SERVE = "from transformers.cli.transformers import main; main()"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", SERVE, "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_it_answers(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "transformers serve ended; are its packages installed (transformers[serving])?"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code < 500:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError("transformers serve did not start")


def test_a_killed_and_restarted_server_loses_no_finished_generation(tmp_path: Path) -> None:
    port, cache = free_port(), tmp_path / "generations.jsonl"
    server = OpenAIServer(f"http://127.0.0.1:{port}/v1", str(BASE_MODEL), concurrency=2, patience_s=600)
    settings = EvalSettings(("world-math", "world-code"), Sampling(max_new_tokens=48), limit=12, instruct=False)
    found: list[dict[str, object]] = []
    client = threading.Thread(target=lambda: found.append(run_eval(server, settings, tmp_path)), daemon=True)
    with serving(port) as first:
        wait_until_it_answers(port, first)
        client.start()
        while not cache.exists() or len(read_cache(cache)[0]) < 5:
            time.sleep(0.05)
    before = read_cache(cache)[0]
    assert 5 <= len(before) < 24
    with serving(port):
        client.join(timeout=900)
    assert found, "the evaluation did not end"
    after = read_cache(cache)[0]
    assert {key: after[key] for key in before} == before
    assert len(after) == 24
    assert len(cache.read_text().splitlines()) == 24
