"""Servers that are dead, slow, huge or odd: an error in a sentence, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.data.schema import Message
from infra.errors import InputError, ModelError, ResourceError
from infra.models.generation import OpenAIServer, Prompt, Sampling, generate_cached
from infra.models.generation import _http as http
from infra.models.generation._completion import read_completion

from .test_server import completion, echo, prompts, serving

GET = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BOMB = gzip.compress(b" " * 50_000_000)
ONE = [Prompt("p", (Message("user", "q"),))]


@contextmanager
def raw(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers a GET properly and leaves a POST to ``answer``, byte for byte."""
    listening = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def handle(connection: socket.socket) -> None:
        with connection:
            try:
                asked = connection.recv(65536)
                if asked.startswith(b"GET"):
                    connection.sendall(GET)
                else:
                    answer(connection)
            except OSError:
                pass

    def loop() -> None:
        while not stopped.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        stopped.set()
        listening.close()


def ask(url: str, **settings: float) -> str:
    return (
        OpenAIServer(url, "m", **{"patience_s": 0.0, "timeout_s": 1.0, **settings}).generate(ONE, Sampling(), 0)[0].text
    )


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as there:
        return f"http://127.0.0.1:{there.getsockname()[1]}/v1"


def silent(connection: socket.socket) -> None:
    time.sleep(30)


def dripping_headers(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: y\r\n" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def dripping_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(100000):
        connection.sendall(b" ")
        time.sleep(0.05)


def dripping_chunks(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100000):
        connection.sendall(b"1\r\n \r\n")
        time.sleep(0.05)


def cut_off(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{")


def no_http(connection: socket.socket) -> None:
    connection.sendall(b"\x00\x01\x02 hello\r\n\r\n")


@pytest.mark.parametrize("answer", [silent, dripping_headers, dripping_body, dripping_chunks, cut_off, no_http])
def test_an_answer_that_does_not_come_whole_is_given_up_in_time(answer):
    began = time.monotonic()
    with raw(answer) as url, pytest.raises(ResourceError, match="gave no answer to prompt 'p'") as caught:
        ask(url)
    assert time.monotonic() - began < 5 and "\n" not in str(caught.value)


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def long_claim(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        connection.sendall(b" " * 0x10000)


def endless_error(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    while True:
        connection.sendall(b" " * 0x10000)


def packed(connection: socket.socket) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(BOMB)}\r\n\r\n"
    connection.sendall(head.encode() + BOMB)


@pytest.mark.parametrize("answer", [endless, long_claim, endless_error, packed])
def test_an_answer_without_end_is_refused_in_bounded_memory(answer, monkeypatch):
    monkeypatch.setattr(http, "MAX_BYTES", 4 << 20)
    tracemalloc.start()
    try:
        with raw(answer) as url, pytest.raises(ModelError, match=r"has more than 4 MiB|is packed \(gzip\)"):
            ask(url, timeout_s=30.0)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [closed_port, lambda: "http://no-such-host.invalid:8000/v1"])
def test_a_dead_server_is_an_error_within_seconds_whatever_the_patience(make):
    began = time.monotonic()
    with pytest.raises(ResourceError, match=r"nothing answers at http://.*start the server, or mend the address"):
        OpenAIServer(make(), "m", patience_s=300.0).generate(prompts(50), Sampling(), 0)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://x/v1", "", "/v1", "http:/x"])
def test_an_address_of_another_kind_is_refused_at_once(url):
    with pytest.raises(InputError, match="http:// or https:// address"):
        OpenAIServer(url, "m")


def test_a_key_that_cannot_be_sent_is_refused_at_once():
    with serving(echo) as (url, _), pytest.raises(InputError, match="key cannot be used"):
        OpenAIServer(url, "m", api_key="a\nb").generate(ONE, Sampling(), 0)


def test_nothing_is_asked_when_everything_is_in_the_cache(tmp_path: Path):
    file = tmp_path / "g.jsonl"
    with serving(echo) as (url, _):
        first = generate_cached(OpenAIServer(url, "m"), prompts(3), Sampling(), 0, file)
    assert generate_cached(OpenAIServer(closed_port(), "m"), prompts(3), Sampling(), 0, file) == first


def test_retries_are_announced_once_and_not_by_every_request(capsys):
    with serving(lambda body, n: (503, {"error": "loading"}) if n <= 6 else echo(body, n)) as (url, _):
        found = OpenAIServer(url, "m", concurrency=6, patience_s=60).generate(prompts(6), Sampling(), 0)
    assert len(found) == 6
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "status 503" in said and "trying again for up to" in said


def test_when_one_request_is_refused_the_others_stop_trying():
    def answer(body, number):
        return (503, {}) if body["messages"][-1]["content"] != "q3" else (400, {"error": "no"})

    began = time.monotonic()
    with serving(answer) as (url, _), pytest.raises(InputError, match="refused prompt 'p3'"):
        OpenAIServer(url, "m", concurrency=4, patience_s=300).generate(prompts(4), Sampling(), 0)
    assert time.monotonic() - began < 20


def body(message: object, **more: object) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **more}).encode()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (body({"content": None}), ""),
        (body({}), ""),
        (body({"content": "a", "reasoning_content": "t"}), "<think>t</think>a"),
        (body({"content": "a", "reasoning": "t"}), "<think>t</think>a"),
        (body({"content": [{"type": "text", "text": "a"}, {"text": "b"}]}), "ab"),
        (b'{"choices": [{"message": {"content": "x\\ud800y"}}]}', "x\ufffdy"),
        (b'{"choices": [{"message": {"content": "\\ud83d\\ude00"}}]}', "\U0001f600"),
        (body({"content": "a"}, usage={"completion_tokens": "many"}), "a"),
        (body({"content": "a"}, usage=[1]), "a"),
        (b'{"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": Infinity}}', "a"),
        (b'{"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": -5}}', "a"),
        (b'{"choices": [{"message": {"content": "a"}, "finish_reason": {"x": 1}}]}', "a"),
    ],
)
def test_what_can_be_understood_is(answer, text):
    found = read_completion(answer)
    assert (found.text, found.tokens, found.finish) == (text, 0, "stop")
    found.text.encode("utf-8")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b'"text"',
        b"[" * 100_000,
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": {"0": {}}}',
        b'{"choices": ["a"]}',
        b'{"choices": [{"message": "a"}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": {"a": 1}}}]}',
        b'{"choices": [{"message": {"content": [1, 2]}}]}',
        b'{"choices": [{"message": {"content": [{"type": "image_url"}]}}]}',
        b'{"choices": [{"message": {"content": "a", "reasoning_content": 5}}]}',
        b"\xff\xfe\x00",
        b"1" * 10_000,
    ],
)
def test_what_cannot_be_understood_is_one_sentence(answer):
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
    words = r"no chat completion: .*; check that base_url ends in /v1"
    with raw(lambda c: c.sendall(whole)) as url, pytest.raises(ModelError, match=words) as caught:
        ask(url, timeout_s=10.0)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_redirect_is_not_followed_and_said():
    with serving(lambda b, n: (307, "elsewhere")) as (url, bodies), pytest.raises(InputError, match="status 307"):
        ask(url)
    assert len(bodies) == 1


def test_completion_helper_is_what_real_servers_send():
    found = read_completion(json.dumps(completion("a b c", "length")).encode())
    assert (found.text, found.tokens, found.finish) == ("a b c", 3, "length")
