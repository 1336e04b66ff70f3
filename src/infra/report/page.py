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
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from infra import __version__
from infra.report import sections as layout
from infra.report.data import ExampleView, ReportData, check_report_data
from infra.report.encode import displayable, encode_example, plain
from infra.report.honesty import caveats
from infra.report.runinfo import LISTS, listed_tables, run_facts
from infra.report.tablespec import table_spec, title
from infra.report.wording import count
from infra.store import write_text

MAX_BYTES = 40_000_000
_EXACT_VALUES = 1_500_000
_LEVELS = (127, 90, 63, 45, 31, 15)
_PREVIEW = 160
_FOLDED = 4


def asset(name: str) -> str:
    """The text of a file in ``report/assets``."""
    return (resources.files("infra.report") / "assets" / name).read_text(encoding="utf-8")


def script(*names: str) -> str:
    """Several script files as one, in a scope of its own."""
    return '"use strict";(() => {\n' + "\n".join(asset(n) for n in names) + "\n})();"


def render_report(data: ReportData, out: Path, max_bytes: int = MAX_BYTES) -> None:
    """Write the page to ``out``, whole or not at all; at most ``max_bytes`` as long as tables alone fit.

    Token scores are kept exactly where they are few, else as int8 with as many levels as fit; examples that
    do not fit even so are left out from the end, and the page says what was done. Raises
    :class:`infra.errors.InputError` for a table or example of the wrong shape.
    """
    check_report_data(data)
    specs = {name: table_spec(name, frame) for name, frame in listed_tables(data).items() if len(frame)}
    page_json: dict[str, Any] = {
        "tables": specs,
        "targets": _targets(data.examples),
        "scales": shared_scales(data.examples),
    }
    fixed = len(json.dumps(page_json)) + 250_000 + sum(len(svg) * 4 // 3 for svg in data.figures.values())
    blobs, levels = pack_examples(data.examples, max_bytes - fixed - 700 * len(data.examples))
    page_json["examples"] = [_listing(view) for view in data.examples[: len(blobs)]]
    html = _render(data, page_json, blobs, _precision(levels, len(blobs), len(data.examples)))
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


def _render(data: ReportData, page_json: Mapping[str, Any], blobs: Sequence[str], precision: str) -> str:
    css = asset("base.css") + asset("report.css") + asset("tokens.css")
    js = script("common.js", "tables.js", "codec.js", "tokens.js", "report.js")
    shown = layout.sections(data)
    images = {
        s.id: [(c, base64.b64encode(svg.encode("utf-8", "replace")).decode()) for c, svg in s.images] for s in shown
    }
    parts = [
        {
            "id": s.id,
            "title": s.title,
            "intro": s.intro,
            "figures": s.figures,
            "tables": [(name, title(name), count(len(data.tables[name]))) for name in s.tables],
            "forms": s.forms,
            "images": images[s.id],
        }
        for s in shown
    ]
    notes = caveats(data)
    contents = [{"id": "asked", "title": "What was asked"}, {"id": "answer", "title": "The answer"}]
    contents += [{"id": "honesty", "title": "Before you conclude"}] if notes else []
    contents += [{"id": s.id, "title": s.title} for s in shown]
    contents += [{"id": "examples", "title": "Examples, token by token"}] if blobs else []
    contents += [{"id": "run", "title": "The run"}]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    template = environment.from_string(asset("report.html"))
    return displayable(
        template.render(
            csp=content_policy(css, js),
            title=data.title,
            quick=data.quick,
            facts=layout.facts(data),
            css=_raw(css),
            js=js,
            contents=contents,
            question=layout.question(data),
            answer=layout.answer_by_topic(data),
            caveats=notes,
            sections=parts,
            folded=_FOLDED,
            n_examples=len(blobs),
            precision=precision,
            run=run_facts(data),
            run_tables=[(name, title(name)) for name in LISTS if name in page_json["tables"]],
            payload=embed_json(page_json),
            blobs=blobs,
            version=__version__,
        )
    )


def _raw(css: str) -> Any:
    from markupsafe import Markup

    return Markup(css)


def _targets(examples: Sequence[ExampleView]) -> list[str]:
    return list(examples[0].targets) if examples else []


def _listing(view: ExampleView) -> dict[str, Any]:
    """What the list of examples shows and searches without opening the example's blob."""
    names = ("domain", "difficulty", "set", "family", "source", "style")
    attributes = {k: plain(v) for k, v in view.attributes.items() if k in names}
    label = " · ".join(str(attributes[k]) for k in names[:2] if attributes.get(k) is not None) or view.id
    preview = " ".join(displayable(view.text[: 4 * _PREVIEW]).split())[:_PREVIEW]
    return {
        "id": displayable(view.id),
        "label": label,
        "attributes": attributes,
        "preview": preview,
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
