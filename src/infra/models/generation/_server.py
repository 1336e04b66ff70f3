"""Text from any server that speaks the OpenAI chat protocol: vLLM, SGLang, ``transformers serve`` and
others.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import httpx

from infra.errors import InputError, ModelError, ResourceError
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


class OpenAIServer:
    """Generates through ``{base_url}/chat/completions``, ``concurrency`` requests at once, one sample a
    request.

    A refused connection, a time-out, a cut answer and the statuses 408, 409, 425, 429 and 5xx are tried
    again with doubling pauses until ``patience_s`` seconds have gone by without an answer, so that a server
    may be restarted in the middle. ``extra_body`` is merged into every request (for vLLM's and SGLang's own
    settings). A forced prefix is sent as the beginning of an assistant turn with
    ``continue_final_message``.
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
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._model, self._concurrency = model, concurrency
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._extra = dict(extra_body or {})
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._identity = identity or f"server:{model}"

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
        something else than a chat completion, ``ResourceError`` when it cannot be reached for
        ``patience_s`` seconds.
        """
        check_prompts(prompts)
        known = set(done)
        jobs = [(p, i) for p in prompts for i in range(sampling.n) if (p.id, i) not in known]
        results: list[Generation] = []
        with httpx.Client(timeout=self._timeout_s, headers=self._headers) as client:

            def one(prompt: Prompt, index: int) -> None:
                generation = self._ask(client, prompt, index, sampling, seed)
                results.append(generation)
                if on_result is not None:
                    on_result(generation)

            with ThreadPoolExecutor(self._concurrency) as pool:
                futures = [pool.submit(one, prompt, index) for prompt, index in jobs]
                finished, waiting = wait(futures, return_when=FIRST_EXCEPTION)
                for future in waiting:
                    future.cancel()
                for future in finished:
                    future.result()
        return in_order(prompts, results)

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

    def _ask(self, client: httpx.Client, prompt: Prompt, index: int, sampling: Sampling, seed: int) -> Generation:
        body = self._body(prompt, index, sampling, seed)
        started, pause = time.monotonic(), 0.25
        while True:
            try:
                response = client.post(self._url, json=body)
                if response.status_code not in RETRY_STATUS:
                    return self._read(prompt, index, response)
                problem = f"status {response.status_code}: {response.text[:200]}"
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            if time.monotonic() - started > self._patience_s:
                raise ResourceError(
                    f"{self._url} gave no answer to prompt {prompt.id!r} for "
                    f"{self._patience_s:.0f} s ({problem}); "
                    "start the server again and repeat the command: finished generations are kept"
                )
            time.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, MAX_WAIT_S)

    def _read(self, prompt: Prompt, index: int, response: httpx.Response) -> Generation:
        if response.status_code != 200:
            raise InputError(
                f"{self._url} refused prompt {prompt.id!r} with status {response.status_code}: "
                f"{response.text[:300]}; check the model's name, the key and the prompt's length"
            )
        try:
            answer = response.json()
            choice = answer["choices"][0]
            text = choice["message"]["content"] or ""
            thought = choice["message"].get("reasoning_content") or ""
            count = int((answer.get("usage") or {}).get("completion_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{self._url} answered prompt {prompt.id!r} with something that is no chat completion: "
                f"{response.text[:200]}; check that base_url ends in /v1"
            ) from error
        if thought:
            text = f"<think>{thought}</think>{text}"
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        return Generation(prompt.id, index, prompt.prefix + text, count, finish)
