"""The client of OpenAI-compatible servers, against a small real HTTP server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.data.schema import Message
from infra.errors import InputError, ModelError, ResourceError
from infra.models.generation import OpenAIServer, Prompt, Sampling, generate_cached

Answer = Callable[[dict[str, Any], int], tuple[int, Any]]


@contextmanager
def serving(answer: Answer, port: int = 0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server whose ``answer(body, number)`` gives status and JSON; yields its base URL and the bodies received."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append(body | {"_auth": self.headers.get("Authorization"), "_path": self.path})
            status, payload = answer(body, len(bodies))
            if status == 0:  # a server that dies in the middle of an answer
                self.connection.close()
                return
            data = payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", bodies
    finally:
        server.shutdown()
        server.server_close()


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"completion_tokens": len(text.split())}}


def echo(body: dict[str, Any], number: int) -> tuple[int, Any]:
    return 200, completion(f"you said {body['messages'][-1]['content']}")


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"p{i}", (Message("system", "be brief"), Message("user", f"q{i}"))) for i in range(count)]


def test_requests_carry_messages_sampling_key_and_one_seed_each() -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=50, n=2)
    with serving(echo) as (url, bodies):
        results = OpenAIServer(url, "m", "secret", concurrency=3).generate(prompts(4), sampling, seed=1)
    assert [(r.prompt_id, r.index) for r in results] == [(f"p{i}", j) for i in range(4) for j in range(2)]
    assert results[2].text == "you said q1" and results[2].n_tokens == 3
    body = bodies[0]
    assert body["_path"] == "/v1/chat/completions" and body["_auth"] == "Bearer secret"
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 50)
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    assert len({b["seed"] for b in bodies}) == 8


def test_a_forced_prefix_begins_the_assistant_turn_and_the_text() -> None:
    prompt = Prompt("p", (Message("user", "q"),), "<think>\n")
    with serving(lambda b, n: (200, completion("so</think> 5", "length"))) as (url, bodies):
        result = OpenAIServer(url, "m").generate([prompt], Sampling(), 0)[0]
    assert bodies[0]["messages"][-1] == {"role": "assistant", "content": "<think>\n"}
    assert bodies[0]["continue_final_message"] is True
    assert result.text == "<think>\nso</think> 5" and result.finish == "length"


def test_passing_faults_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.models.generation._server.time.sleep", lambda s: None)
    faults = {1: (503, {}), 2: (429, {}), 3: (0, None)}
    with serving(lambda b, n: faults.get(n) or echo(b, n)) as (url, bodies):
        result = OpenAIServer(url, "m", concurrency=1).generate(prompts(1), Sampling(), 0)[0]
    assert result.text == "you said q0" and len(bodies) == 4


def test_lasting_faults_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = (400, {"error": "no such model"})
    with serving(lambda b, n: refuse) as (url, _), pytest.raises(InputError, match="no such"):
        OpenAIServer(url, "m").generate(prompts(2), Sampling(), 0)
    with serving(lambda b, n: (200, "<html>")) as (url, _), pytest.raises(ModelError, match="base_url ends in /v1"):
        OpenAIServer(url, "m").generate(prompts(1), Sampling(), 0)
    with pytest.raises(ResourceError, match=r"nothing answers at .*start the server"):
        OpenAIServer("http://127.0.0.1:9/v1", "m", patience_s=0.0).generate(prompts(1), Sampling(), 0)


def test_a_server_that_dies_in_the_middle_loses_no_finished_generation(tmp_path: Path) -> None:
    file = tmp_path / "g.jsonl"
    with serving(lambda b, n: echo(b, n) if n <= 5 else (0, None)) as (url, _):
        with pytest.raises(ResourceError):
            generate_cached(OpenAIServer(url, "m", concurrency=1, patience_s=0.0), prompts(9), Sampling(), 0, file)
        assert len(file.read_text().splitlines()) == 5
    with serving(echo) as (url, second):
        results = generate_cached(OpenAIServer(url, "m"), prompts(9), Sampling(), 0, file)
    assert len(second) == 4 and [r.text for r in results] == [f"you said q{i}" for i in range(9)]
