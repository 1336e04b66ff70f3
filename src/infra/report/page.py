"""``report.html``: one self-contained page, made from a :class:`ReportData`.

The page asks nothing of any network: its content policy forbids every source but the two inline blocks named
by hash. All text from records travels as JSON or compressed bytes and reaches the page as text nodes only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from infra import __version__
from infra.report.data import ExampleView, ReportData
from infra.report.encode import displayable, encode_example, plain
from infra.report.runinfo import LISTS, facts, listed_tables, next_steps, question, run_facts
from infra.report.section import Figure, Section, Sentence, Table
from infra.report.sections import SECTIONS, answer, caveats, check_report_data, lead, shown_tables, trust
from infra.report.sections.effects import FORMS
from infra.report.svg import inline_svg
from infra.report.tablespec import known, table_spec, title
from infra.report.tokenmap import excerpt, problem
from infra.report.wording import count
from infra.store import write_text

MAX_BYTES = 40_000_000
_EXACT_VALUES = 1_500_000
_LEVELS = (127, 90, 63, 45, 31, 15)
_FOLDED = 4


def asset(name: str) -> str:
    """The text of a file in ``report/assets``."""
    return (resources.files("infra.report") / "assets" / name).read_text(encoding="utf-8")


def script(*names: str) -> str:
    """Several script files as one, in a scope of its own."""
    return '"use strict";(() => {\n' + "\n".join(asset(n) for n in names) + "\n})();"


def render_report(
    data: ReportData, out: Path, max_bytes: int = MAX_BYTES, sections: Sequence[Section] = SECTIONS
) -> None:
    """Write the page to ``out``, whole or not at all; at most ``max_bytes`` as long as tables and figures alone fit.

    Token scores are kept exactly where they are few, else as int8 with as many levels as fit; examples that do not
    fit even so are left out from the end, and the page says what was done. ``sections`` are shown in their order.
    Raises :class:`infra.errors.InputError` for a table or example of the wrong shape.
    """
    check_report_data(data, sections)
    own = {t.name: t for section in sections for t in section.tables}
    tables = {**listed_tables(data), **shown_tables(data, sections)}
    payload: dict[str, Any] = {
        "tables": {n: table_spec(n, f, spec=own.get(n) or LISTS.get(n)) for n, f in tables.items() if len(f)},
        "targets": list(data.examples[0].targets) if data.examples else [],
        "scales": shared_scales(data.examples),
        "examples": [_listing(view) for view in data.examples],
    }
    page = {**_words(data, sections), "sections": _parts(data, sections, tables), "run_tables": _run_tables(tables)}
    bare = _render(page, payload, [], _precision(15, 0, len(data.examples)))
    blobs, levels = pack_examples(data.examples, max_bytes - len(bare.encode()) - 64 * len(data.examples) - 1000)
    payload["examples"] = payload["examples"][: len(blobs)]
    html = _render(page, payload, blobs, _precision(levels, len(blobs), len(data.examples)))
    write_text(Path(out), html)


def pack_examples(examples: Sequence[ExampleView], budget: int) -> tuple[list[str], int | None]:
    """Base64 blobs that fit ``budget`` characters together, and the int8 levels used (None: exact float32).

    The finest encoding that fits is estimated on a sample of 24 examples, then made to fit for certain.
    """
    if not examples:
        return [], None
    values = sum(int(np.size(s)) for view in examples for s in view.scores.values())
    choices: list[int | None] = [None] if values <= _EXACT_VALUES else []
    choices += list(_LEVELS)
    step = max(1, len(examples) // 24)
    sample = examples[::step]
    blobs: list[str] = []
    for levels in choices:
        estimate = sum(len(encode_example(v, levels)) for v in sample) * len(examples) / len(sample) * 4 / 3
        if estimate > 1.02 * budget and levels != choices[-1]:
            continue
        blobs = [base64.b64encode(encode_example(v, levels)).decode("ascii") for v in examples]
        if sum(map(len, blobs)) <= budget:
            return blobs, levels
    used = np.cumsum([len(b) for b in blobs])
    return blobs[: int(np.searchsorted(used, budget, side="right"))], levels


def shared_scales(examples: Sequence[ExampleView]) -> dict[str, dict[str, float]]:
    """Per decomposition and target, the 99.9th percentile of ``|score|`` over all tokens under a loss: the
    fixed scale.
    """
    gathered: dict[tuple[str, str], list[np.ndarray]] = {}
    for view in examples:
        mask = np.asarray(view.loss_mask, dtype=bool)
        for name, scores in view.scores.items():
            for k, target in enumerate(view.targets):
                gathered.setdefault((name, target), []).append(np.abs(np.asarray(scores)[k][mask]))
    scales: dict[str, dict[str, float]] = {}
    for (name, target), parts in gathered.items():
        joined = np.concatenate(parts)
        value = float(np.quantile(joined, 0.999, method="higher")) if len(joined) else 0.0
        scales.setdefault(name, {})[target] = value
    return scales


def embed_json(value: Any) -> str:
    """JSON that is safe inside a script element, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content_policy(css: str, js: str) -> str:
    """A policy that admits these two inline blocks, data: images, and nothing else."""

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {digest(js)}; style-src {digest(css)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _words(data: ReportData, sections: Sequence[Section]) -> dict[str, Any]:
    """What the first screen says, the caveats and the end of the page."""
    said = answer(data, sections)
    first = [*lead(said), *(s for s in said if s.first)]
    able = data.examples[0].targets if data.examples else ()
    shown = next((s.target for s in first if s.target in able), next(iter(able), ""))
    return {
        "title": data.title,
        "quick": data.quick,
        "facts": facts(data),
        "question": question(data),
        "first": first,
        "further": [(topic, list(group)) for topic, group in groupby((s for s in said if s not in first), _topic)],
        "excerpt": excerpt(data.examples, shown),
        "trust": trust(data, sections),
        "next": next_steps(data),
        "caveats": caveats(data, sections),
        "run": run_facts(data),
        "n_examples": len(data.examples),
        "version": __version__,
    }


def _topic(sentence: Sentence) -> str:
    return sentence.topic


def _parts(data: ReportData, sections: Sequence[Section], tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The sections that this data can fill, drawn, and after them the caller's own figures and tables."""
    parts = []
    for section in sections:
        figures = [f for f in section.figures(data) if f.panels]
        named = [t for t in section.tables if t.name in tables]
        if figures or named:
            parts.append(_part(section, figures, named, tables))
    images = [(c, base64.b64encode(svg.encode("utf-8", "replace")).decode()) for c, svg in data.figures.items()]
    if images:
        parts.append(_part(Section("figures", "Further figures"), [], [], tables) | {"images": images})
    owned = {t.name for section in sections for t in section.tables}
    others = [known(n) for n in tables if n not in owned and n not in LISTS]
    if others:
        parts.append(_part(Section("tables", "Further tables"), [], others, tables))
    return parts


def _part(
    section: Section, figures: Sequence[Figure], named: Sequence[Table], tables: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    forms = list(dict.fromkeys(f.variant for f in figures if f.variant))
    drawn = [
        {
            "heading": f.heading,
            "caption": f.caption,
            "key": f.key,
            "variant": f.variant,
            "shown": not f.variant or f.variant == forms[0],
            "panels": [(p.heading, inline_svg(p, f"{section.id}-{i}-{j}")) for j, p in enumerate(f.panels)],
        }
        for i, f in enumerate(figures)
    ]
    return {
        "id": section.id,
        "title": section.title,
        "intro": section.intro,
        "figures": drawn,
        "tables": [(t.name, title(t), count(len(tables[t.name]))) for t in named],
        "forms": [(form, FORMS.get(form, form)) for form in forms],
        "images": [],
    }


def _run_tables(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    return [(name, title(spec)) for name, spec in LISTS.items() if name in tables]


def _render(page: Mapping[str, Any], payload: Mapping[str, Any], blobs: Sequence[str], precision: str) -> str:
    css = asset("base.css") + asset("report.css") + asset("tokens.css")
    js = script("common.js", "tables.js", "codec.js", "token-rows.js", "tokens.js", "report.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return displayable(
        environment.from_string(asset("report.html")).render(
            **page,
            csp=content_policy(css, js),
            css=Markup(css),
            js=Markup(js),
            folded=_FOLDED,
            precision=precision,
            payload=Markup(embed_json(payload)),
            blobs=blobs,
        )
    )


def _listing(view: ExampleView) -> dict[str, Any]:
    """What the list of examples shows and searches without opening the example's blob."""
    names = ("domain", "difficulty", "set", "family", "source", "style")
    attributes = {k: plain(v) for k, v in view.attributes.items() if k in names}
    label = " · ".join(str(attributes[k]) for k in names[:2] if attributes.get(k) is not None) or view.id
    return {
        "id": displayable(view.id),
        "label": label,
        "attributes": attributes,
        "preview": problem(view),
        "totals": view.totals().astype(float).tolist(),
    }


def _precision(levels: int | None, kept: int, given: int) -> str:
    exact = (
        "Token scores are exact."
        if levels is None
        else (
            f"Token scores are rounded to {levels} square-root steps a side (marked ≈); exact values are "
            f"in the run's "
            "Parquet files and in the explorer."
        )
    )
    left_out = "" if kept == given else f" {given - kept} of {given} examples are left out to keep the page small."
    colours = "Blue tokens raise the likelihood of correct answers to the target, orange tokens lower it."
    return f"{colours} {exact}{left_out}"
