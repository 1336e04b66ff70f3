"""What every source of text shares: a prompt, how to sample, and one finished generation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.data.schema import Message
from infra.errors import InputError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How text is drawn. ``temperature`` 0 is greedy; ``n`` samples are drawn per prompt.

    ``top_p`` keeps the smallest set of tokens whose probability reaches it (nucleus sampling, Holtzman et
    al., 2020). ``max_new_tokens`` bounds one generation, the end-of-turn token included.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    n: int = 1

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_new_tokens < 1 or self.n < 1:
            raise InputError(
                f"sampling {self} is out of range: temperature must be >= 0, top_p in (0, 1], "
                "max_new_tokens and n at least 1"
            )


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to be continued by the assistant. ``prefix`` is text the assistant turn is forced to
    begin with.
    """

    id: str
    messages: tuple[Message, ...]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """One assistant turn: ``text`` is whole (a forced prefix included), ``n_tokens`` counts what was
    generated.

    ``finish`` is ``stop`` (end of turn reached) or ``length`` (cut by ``max_new_tokens`` or the context).
    """

    prompt_id: str
    index: int
    text: str
    n_tokens: int
    finish: str


OnResult = Callable[[Generation], None]
Key = tuple[str, int]


class Generator(Protocol):
    """Anything that turns prompts into generations.

    ``identity`` names all that its text depends on beside prompt and sampling (weights, tokenizer, chat template,
    generation configuration) and is part of every cache key. ``generate`` calls
    ``on_result`` as each generation finishes and returns those it produced, ordered by prompt and sample.
    ``done`` holds the ``(prompt id, index)`` pairs that are already known and must not be reported again.
    """

    @property
    def identity(self) -> str: ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seed: int,
        on_result: OnResult | None = None,
        done: Collection[Key] = frozenset(),
    ) -> list[Generation]: ...


def content_hash(prompt: Prompt) -> str:
    """SHA-256 of what the model will read (messages and forced prefix), independent of the prompt's id."""
    body = json.dumps([[(m.role, m.content) for m in prompt.messages], prompt.prefix], ensure_ascii=True)
    return hashlib.sha256(body.encode()).hexdigest()


def check_prompts(prompts: Sequence[Prompt]) -> None:
    """Raise ``InputError`` when two prompts share an id: their generations could not be told apart."""
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            raise InputError(f"two prompts have the id {prompt.id!r}; give every prompt an id of its own")
        seen.add(prompt.id)


def in_order(prompts: Sequence[Prompt], results: Sequence[Generation]) -> list[Generation]:
    """Generations sorted by the position of their prompt, then by sample index."""
    position = {prompt.id: i for i, prompt in enumerate(prompts)}
    return sorted(results, key=lambda g: (position[g.prompt_id], g.index))
