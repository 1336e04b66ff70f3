"""The sections of the page in their order, and what is said over all of them.

To add a section, write a file here that ends in ``SECTION = Section(...)`` and name it in :data:`SECTIONS`; a section
of one's own needs no change here: ``render_report(data, out, sections=(*SECTIONS, MINE))``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from infra.errors import InputError
from infra.report.data import ReportData, check_example, table
from infra.report.section import Section, Sentence, Table
from infra.report.sections import accuracy, agreement, checks, contrasts, convergence, effects, prediction, top

SECTIONS: tuple[Section, ...] = (
    convergence.SECTION,
    top.SECTION,
    checks.TARGETS,
    contrasts.SECTION,
    accuracy.SECTION,
    accuracy.SLOPE,
    contrasts.STRATEGIES,
    effects.SECTION,
    effects.DOMAIN_MEANS,
    agreement.SECTION,
    effects.BEHAVIOURS,
    checks.STEP_DEFINITIONS,
    effects.TOKEN_CLASSES,
    effects.PARTS,
    prediction.SECTION,
    prediction.VALIDATION,
    checks.HYPOTHESES,
    checks.PERMUTATION,
)

TABLES: Mapping[str, Table] = {t.name: t for section in SECTIONS for t in section.tables}
"""The tables the page knows, by name; further tables and columns are shown as they are."""

TABLE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    name: tuple(c for c in t.columns.split() if c not in t.optional.split()) for name, t in TABLES.items()
}
"""The columns each known table must have."""

_QUICK = "This is a quick run: too small to conclude from. It shows that every stage works, no more."


def check_report_data(data: ReportData, sections: Sequence[Section] = SECTIONS) -> None:
    """Raise :class:`InputError` naming the table or example that does not have the shape documented."""
    for spec in (t for section in sections for t in section.tables):
        found = table(data, spec.name)
        needed = [c for c in spec.columns.split() if c not in spec.optional.split()]
        missing = [] if found is None else [c for c in needed if c not in found.columns]
        if found is not None and missing:
            raise InputError(
                f"report table '{spec.name}' lacks the column(s) {', '.join(missing)}; it has "
                f"{', '.join(map(str, found.columns))}: add them, or leave the table out"
            )
    if data.scores is not None and "domain" not in data.scores.columns:
        raise InputError(
            f"report scores lack the column 'domain'; they have {', '.join(map(str, data.scores.columns))}"
        )
    for view in data.examples:
        check_example(view)


def answer(data: ReportData, sections: Sequence[Section] = SECTIONS) -> list[Sentence]:
    """All sentences of the answer, in the order of the page."""
    return [sentence for section in sections for sentence in section.answer(data)]


def lead(sentences: Sequence[Sentence]) -> list[Sentence]:
    """One sentence a target: what kind of data helps it where that stands out, else its ranking."""
    out = []
    for target in dict.fromkeys(s.target for s in sentences if s.target):
        mine = [s for s in sentences if s.target == target]
        out.append(next((s for s in mine if s.verdict == "influence suggests"), mine[0]))
    return out


def trust(data: ReportData, sections: Sequence[Section] = SECTIONS) -> list[tuple[str, str]]:
    """(measure, sentence) pairs that stand beside the answer."""
    said = [pair for section in sections for pair in section.trust(data)]
    return sorted(said, key=lambda pair: pair[0] not in ("Validity", "Reliability"))


def caveats(data: ReportData, sections: Sequence[Section] = SECTIONS) -> list[str]:
    """Sentences for 'Before you conclude', the caller's own notes last."""
    said = [_QUICK] if data.quick else []
    said += [sentence for section in sections for sentence in section.caveats(data)]
    return list(dict.fromkeys([*said, *map(str, data.notes)]))


def shown_tables(data: ReportData, sections: Sequence[Section] = SECTIONS) -> dict[str, pd.DataFrame]:
    """The tables that have rows, as sections prepare them."""
    given = {name: frame for name, frame in data.tables.items() if table(data, name) is not None}
    for section in sections:
        given.update(section.prepare(data))
    return given
