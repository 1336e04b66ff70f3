r"""SVAMP: word problems of one or two operations, a numeric answer and the equation that gives it.

Example row (arkilpatel/SVAMP)::

    {"ID": "chal-1", "Body": "A dvd costs 76 dollars, less a discount of 25 dollars", "Question": "What do you pay?",
     "Equation": "( 76.0 - 25.0 )", "Answer": 51.0, "Type": "Subtraction"}

The reference solution is the equation and the boxed answer; whole numbers lose their ``.0``.
"""

from __future__ import annotations

import re

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, known, optional_text, text

_WHOLE = re.compile(r"(?<=\d)\.0+(?!\d)")
_OUTER = re.compile(r"\( ([^()]*) \)")


def convert(row: Raw) -> Draft:
    """Body and question, the equation as the solution, the answer."""
    number = row["Answer"]
    if isinstance(number, bool) or not isinstance(number, int | float | str):
        raise RowProblem("Answer", f"a number is expected, found {type(number).__name__}")
    answer = _WHOLE.sub("", str(number).strip())
    body = text(row, "Body").strip()
    question = f"{body if body.endswith(('.', '?', '!', ',')) else body + '.'} {text(row, 'Question').strip()}"
    equation = _WHOLE.sub("", text(row, "Equation").strip())
    outer = _OUTER.fullmatch(equation)
    solution = f"{outer.group(1) if outer else equation} = {answer}\n\\boxed{{{answer}}}"
    return Draft(
        dialogue(question, solution), "math", answer=answer, attributes=known(operation=optional_text(row, "Type"))
    )


ADAPTERS = (
    Adapter(
        "svamp",
        frozenset({"Body", "Question", "Equation", "Answer"}),
        convert,
        source="svamp",
        native_id="ID",
        columns={
            "ID": "id",
            "Body": "question",
            "Question": "end of the question",
            "Equation": "response, with the answer",
            "Answer": "answer",
            "Type": "attribute operation",
        },
        published="arkilpatel/SVAMP",
    ),
)
