r"""Bespoke-Stratos-17k, and the default subset of OpenThoughts-114k, which shares its schema.

Example row (bespokelabs/Bespoke-Stratos-17k, open-thoughts/OpenThoughts-114k)::

    {"system": "Your role as an assistant involves thoroughly exploring questions ... <|begin_of_thought|> ...",
     "conversations": [{"from": "user", "value": "Return your final response within \\boxed{}. What is 2 + 3?"},
                       {"from": "assistant", "value": "<|begin_of_thought|>\n\n...\n\n<|end_of_thought|>\n\n
                        <|begin_of_solution|>\n\n\\boxed{5}\n\n<|end_of_solution|>"}]}

The data does not say the domain: its code questions ask for an executable Python function, its math questions
for a final response in a box. The text, markers included, is kept as it is.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, boxed, dialogue, guess_domain, optional_text
from infra.data.turns import turns


def convert(row: Raw) -> Draft:
    """The conversation under its system prompt; the answer is the last box of a math solution."""
    messages = turns(row, "conversations", "from", "value")
    system = optional_text(row, "system")
    if system and messages[0].role != "system":
        messages = (*dialogue("", None, system)[:1], *messages)
    domain = guess_domain(messages)
    response = messages[-1].content if messages[-1].role == "assistant" else None
    return Draft(
        messages,
        domain,
        answer=boxed(response) if domain == "math" else None,
        attributes={"domain_guessed": True},
    )


def _marked(row: Raw) -> bool:
    return "<|begin_of_thought|>" in str(row.get("system"))


ADAPTERS = (
    Adapter(
        "bespoke-stratos",
        frozenset({"system", "conversations"}),
        convert,
        accepts=_marked,
        aliases=("bespoke-stratos-17k", "openthoughts-114k"),
        source="bespoke-stratos",
        columns={
            "system": "first message",
            "conversations": "messages; the last box is the answer of a math row",
        },
        published="bespokelabs/Bespoke-Stratos-17k; open-thoughts/OpenThoughts-114k, subset default",
    ),
)
