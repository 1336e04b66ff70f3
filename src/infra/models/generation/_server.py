"""Text from any server that speaks the OpenAI chat protocol: vLLM, SGLang, ``transformers serve`` and
others.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import httpx

from infra.errors import InputError, ModelError, ResourceError
from infra.models.generation._completion import read_completion
from infra.models.generation._http import AnswerTooLarge, client, request
from infra.models.generation._types import (
    Generation,
    Key,
    OnResult,
    Prompt,
    Sampling,
    check_prompts,
    content_hash,
    in_order,
)

RETRY_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
MAX_WAIT_S = 30.0
PROBE_S = 5.0
"""Seconds for the question before the work."""
SAY_EVERY_S = 15.0


class OpenAIServer:
    """Generates through ``{base_url}/chat/completions``, ``concurrency`` requests at once, one sample a
    request.

    Before the work one question shows whether anything answers at all; a dead server is an error within seconds.
    Later a refused connection, a time-out, a cut answer and the statuses 408, 409, 425, 429 and 5xx are tried
    again with doubling pauses until ``patience_s`` seconds have gone by without an answer, so that a server
    may be restarted in the middle; standard error says so. ``timeout_s`` bounds one whole answer.
    ``extra_body`` is merged into every request (for vLLM's and SGLang's own settings). A forced prefix is
    sent as the beginning of an assistant turn with ``continue_final_message``.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 600.0,
        patience_s: float = 300.0,
        extra_body: Mapping[str, Any] | None = None,
        identity: str | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise InputError(
                f"the server {base_url!r} is no http:// or https:// address; such as http://localhost:8000/v1"
            )
        self._base = base_url.rstrip("/")
        self._url = self._base + "/chat/completions"
        self._model, self._concurrency = model, concurrency
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._extra = dict(extra_body or {})
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._identity = identity or f"server:{model}"
        self._stop, self._told = threading.Event(), 0.0

    @property
    def identity(self) -> str:
        """Names the weights in cache keys: the model's name at the server unless one was given."""
        return self._identity

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seed: int,
        on_result: OnResult | None = None,
        done: Collection[Key] = frozenset(),
    ) -> list[Generation]:
        """Generations of all prompts but those in ``done``, ordered by prompt and sample.

        Raises ``InputError`` when the server refuses a request, ``ModelError`` when it answers with
        something else than a chat completion, ``ResourceError`` when it cannot be reached, at the start or
        later for ``patience_s`` seconds.
        """
        check_prompts(prompts)
        known = set(done)
        jobs = [(p, i) for p in prompts for i in range(sampling.n) if (p.id, i) not in known]
        results: list[Generation] = []
        self._stop.clear()
        with client(self._headers, self._timeout_s) as http:
            if jobs:
                self.probe(http)

            def one(prompt: Prompt, index: int) -> None:
                generation = self._ask(http, prompt, index, sampling, seed)
                results.append(generation)
                if on_result is not None:
                    on_result(generation)

            with ThreadPoolExecutor(self._concurrency) as pool:
                futures = [pool.submit(one, prompt, index) for prompt, index in jobs]
                try:
                    finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
                finally:
                    self._stop.set()  # nobody goes on trying when one has failed, or the user has stopped
                    for future in futures:
                        future.cancel()
                for future in finished:
                    future.result()
        return in_order(prompts, results)

    def probe(self, http: httpx.Client) -> None:
        """One question with a short wait: any answer at all will do. Raises as :meth:`generate` does."""
        try:
            request(http, "GET", f"{self._base}/models", PROBE_S)
        except AnswerTooLarge:
            return
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise InputError(f"the server {self._base!r} or its key cannot be used ({error}); mend them") from error
        except httpx.ReadTimeout:
            return  # it accepts connections and is busy
        except httpx.TransportError as error:
            raise ResourceError(
                f"nothing answers at {self._base} ({error or type(error).__name__}); start the server, or mend the "
                "address: it ends in /v1 for most servers"
            ) from error

    def _body(self, prompt: Prompt, index: int, sampling: Sampling, seed: int) -> dict[str, Any]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        digest = hashlib.sha256(f"{seed}|{content_hash(prompt)}|{index}".encode()).digest()
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": int.from_bytes(digest[:4], "little") >> 1,
        }
        if prompt.prefix:
            messages.append({"role": "assistant", "content": prompt.prefix})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body | self._extra

    def _ask(self, http: httpx.Client, prompt: Prompt, index: int, sampling: Sampling, seed: int) -> Generation:
        body = self._body(prompt, index, sampling, seed)
        started, pause = time.monotonic(), 0.25
        while True:
            try:
                status, answer = request(http, "POST", self._url, self._timeout_s, body)
                if status not in RETRY_STATUS:
                    return self._read(prompt, index, status, answer)
                problem = f"status {status}: {_shown(answer)}"
            except AnswerTooLarge as error:
                raise ModelError(
                    f"the answer of {self._url} to prompt {prompt.id!r} {error}, which no chat completion has; check "
                    "the address"
                ) from error
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            waited = time.monotonic() - started
            if waited > self._patience_s or self._stop.is_set():
                raise ResourceError(
                    f"{self._url} gave no answer to prompt {prompt.id!r} for {waited:.0f} s ({problem}); "
                    "start the server again and repeat the command: finished generations are kept"
                )
            self._say(f"{self._url}: {problem}; trying again for up to {self._patience_s - waited:.0f} s more")
            self._stop.wait(pause * (0.5 + random.random()))
            pause = min(2 * pause, MAX_WAIT_S)

    def _say(self, words: str) -> None:
        """On standard error, at most once in :data:`SAY_EVERY_S` for all requests together."""
        if time.monotonic() - self._told >= SAY_EVERY_S:
            self._told = time.monotonic()
            print(words, file=sys.stderr)

    def _read(self, prompt: Prompt, index: int, status: int, answer: bytes) -> Generation:
        if status != 200:
            raise InputError(
                f"{self._url} refused prompt {prompt.id!r} with status {status}: {_shown(answer)}; check the model's "
                "name, the key and the prompt's length"
            )
        try:
            found = read_completion(answer)
        except ValueError as error:
            raise ModelError(
                f"{self._url} answered prompt {prompt.id!r} with something that is no chat completion: {error}: "
                f"{_shown(answer)}; check that base_url ends in /v1"
            ) from error
        return Generation(prompt.id, index, prompt.prefix + found.text, found.tokens, found.finish)


def answers_at(base_url: str) -> None:
    """Ask a server one short question. Raises ``InputError`` for an address that is none, ``ResourceError`` when
    nothing answers there."""
    server = OpenAIServer(base_url, "")
    with client({}, PROBE_S) as http:
        server.probe(http)


def _shown(answer: bytes) -> str:
    """The beginning of an answer, on one line."""
    return " ".join(answer[:800].decode("utf-8", "replace").split())[:200]
