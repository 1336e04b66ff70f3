"""Whether the scores are about what training on this data did, and which model they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from infra.data import is_whole
from infra.report.data import ReportData
from infra.report.section import Section, Sentence
from infra.report.wording import count, count_of, listing, number, percent


def _found(data: ReportData) -> Mapping[str, Any] | None:
    found = data.results.get("convergence")
    return found if isinstance(found, Mapping) and found.get("holds") is not None else None


def _answer(data: ReportData) -> Iterable[Sentence]:
    found = _found(data)
    if found is None or found["holds"]:
        return
    advice = "a longer warm-up" if "warmup" in data.results else "infra score --warmup, or fine-tune it on the data,"
    yield Sentence(
        "Do the scores mean what they seem to?",
        "These scores say what a first step on this data would teach, not what training on it has done: the model is "
        f"not near the end of training on it ({advice} comes first).",
        "first step",
        "down",
        first=True,
    )


def _trust(data: ReportData) -> Iterable[tuple[str, str]]:
    found = _found(data)
    if found is not None:
        template = "" if found["template_loss"] is None else f", {number(found['template_loss'], 2)} on the template's"
        verdict = "is near" if found["holds"] else "is not near"
        yield (
            "Meaning",
            f"The model {verdict} the end of training on this data. Its loss is {number(found['content_loss'], 2)} "
            f"nats a token on what the authors wrote{template}; the gradients of {found['examples']} examples agree to "
            f"{number(found['alignment'], 2)} (0: nothing in common is left to learn; up to "
            f"{number(found['largest_alignment'], 2)} counts as near).",
        )
    warmup = data.results.get("warmup")
    if isinstance(warmup, Mapping):
        lora = f" with LoRA of rank {warmup['lora_rank']}" if warmup.get("lora_rank") else ""
        yield (
            "Model",
            f"The scores are not of the given model itself but of it after a warm-up on {count(warmup['examples'])} of "
            f"these examples ({count_of(warmup['steps'], 'step')}{lora}), kept in sft/original-s0/model.",
        )


def _caveats(data: ReportData) -> Iterable[str]:
    sums = data.results.get("token_sums")
    shares = sums.get("template_share", {}) if isinstance(sums, Mapping) else {}
    large = {
        name.removeprefix("train:"): share
        for name, share in shares.items()
        if name.startswith("train:") and is_whole(name.removeprefix("train:")) and share > 1 / 3
    }
    if large:
        told = "leave them out" if sums and sums.get("tokens") == "content" else "include them"
        said = listing(f"{percent(share)} for {target}" for target, share in large.items())
        yield (
            "Tokens that the chat template writes (the end of turn, thinking tags) carry more than a third of all "
            f"tokens' absolute score: {said}. The example scores {told}; their part is the column ‘format’."
        )


SECTION = Section("convergence", "Do the scores mean what they seem to", answer=_answer, trust=_trust, caveats=_caveats)
