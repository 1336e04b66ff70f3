"""Text out of a model, in process or from a server, cached so that nothing finished is drawn twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.models.generation._cache import generate_cached, generation_key, read_cache
from infra.models.generation._server import OpenAIServer, answers_at
from infra.models.generation._types import Generation, Generator, Prompt, Sampling

if TYPE_CHECKING:
    from infra.models.generation._in_process import InProcess

__all__ = [
    "Generation",
    "Generator",
    "InProcess",
    "OpenAIServer",
    "Prompt",
    "Sampling",
    "answers_at",
    "generate_cached",
    "generation_key",
    "read_cache",
]


def __getattr__(name: str) -> Any:
    # torch is imported only by those who generate in process
    if name == "InProcess":
        from infra.models.generation._in_process import InProcess

        return InProcess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
