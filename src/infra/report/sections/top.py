"""Which examples, steps and tokens helped most and least, in numbers that can be read without knowing the unit."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from infra.data import is_whole
from infra.report.data import ExampleView, ReportData, table, whole
from infra.report.section import Section, Sentence, Table
from infra.report.wording import count, is_number, listing, percent, signed

LARGE_SHARE = 1 / 3
FEWEST = 5
_KEY = "target reading rank id preview"
_KINDS = {
    "example": "example {}",
    "token": "the token ‘{}’",
    "class": "tokens of the class ‘{}’",
    "position": "the {}",
}


def standing(data: ReportData, target: str, influence: pd.Series) -> tuple[pd.Series, pd.Series] | None:
    """(percentile, standardised score) of influences among all training examples; None without their scores."""
    column = f"score_{target}"
    if data.scores is None or column not in data.scores.columns:
        return None
    values = data.scores[column].dropna().to_numpy(dtype=np.float64)
    if len(values) < 2 or values.std() == 0:
        return None
    share = np.searchsorted(np.sort(values), influence.to_numpy(dtype=np.float64), side="right") / len(values)
    return pd.Series(100 * share, influence.index), (influence - values.mean()) / values.std(ddof=1)


def reading(row: pd.Series) -> str:
    """'harmful' only for an influence whose interval lies below zero; else the row's place in the ranking."""
    if row["side"] == "top":
        return "most helpful"
    certain = is_number(row.get("high")) and float(row["high"]) < 0
    return "harmful" if certain else "least helpful"


def _prepare(data: ReportData) -> Mapping[str, pd.DataFrame]:
    out = {}
    for spec in SECTION.tables:
        found = table(data, spec.name)
        if found is None or "side" not in found:
            continue
        shown = found.assign(reading=[reading(row) for _, row in found.iterrows()])
        if spec.name == "top" and "percentile" not in shown:
            shown = _with_standing(data, shown)
        out[spec.name] = shown
    return out


def _with_standing(data: ReportData, top: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for target, rows in top.groupby("target", sort=False):
        found = standing(data, str(target), rows["influence"])
        parts.append(rows if found is None else rows.assign(percentile=found[0], standardised=found[1]))
    return pd.concat(parts)


def _answer(data: ReportData) -> Iterable[Sentence]:
    """Per target: the first and the last of the ranking, as the reader would recognise them."""
    top = table(data, "top")
    if top is None:
        return
    for target, rows in whole(top).groupby("target", sort=False):
        first, last = (rows[(rows["side"] == side) & (rows["rank"] == 1)] for side in ("top", "bottom"))
        if first.empty:
            continue
        n = "" if data.scores is None else f" of {count(len(data.scores))} examples"
        text = f"For {target}, the most helpful{n} is {_named(data, str(target), first.iloc[0])}"
        if len(last):
            name = "most harmful" if reading(last.iloc[0]) == "harmful" else "least helpful"
            text += f"; the {name} is {_named(data, str(target), last.iloc[0])}"
        yield Sentence("Which examples?", text + ".", "ranking", "plain", str(target))


def _named(data: ReportData, target: str, row: pd.Series) -> str:
    found = standing(data, target, pd.Series([row["influence"]], dtype=np.float64))
    deviations = row.get("standardised") if found is None else found[1].iloc[0]
    raw = f"influence {signed(row['influence'])}"
    size = f"{signed(deviations, 2)} standard deviations" if is_number(deviations) else raw
    preview = str(row.get("preview") or "").strip()
    quoted = f" ‘{preview[:70].rstrip()}{'…' if len(preview) > 70 else ''}’" if preview and preview != "nan" else ""
    return f"{row['id']}{quoted} ({size})"


def _trust(data: ReportData) -> Iterable[tuple[str, str]]:
    found = concentrations(data)
    if found:
        yield "Concentration", found[0]


def concentrations(data: ReportData) -> list[str]:
    """One sentence for every target of which one example, position, token or token class has over a third of |score|.

    The table ``shares`` speaks for all training examples; without it the shown examples speak for themselves.
    """
    shares = table(data, "shares")
    if shares is not None:
        return list(_in_shares(shares))
    shown = data.examples[0].targets if data.examples else ()
    return [*_in_examples(data), *(s for k, target in enumerate(shown) for s in _in_tokens(data.examples, k, target))]


def _in_shares(shares: pd.DataFrame) -> Iterable[str]:
    """Per target: the examples, tokens, token classes and positions with more than a third of the absolute score."""
    large = shares[(shares["share"] > LARGE_SHARE) & (shares["n_examples"] >= FEWEST)]
    for target, rows in large.groupby("target", sort=False):
        largest_first = rows.sort_values("share", ascending=False, kind="stable")
        said = listing(_share(row) for row in largest_first.to_dict("records"))
        n = count(rows["n_examples"].iloc[0])
        yield f"For {target}, the absolute score of all {n} training examples lies to {said}."


def _share(row: Mapping[Hashable, Any]) -> str:
    said = f"{percent(row['share'])} in {_KINDS[str(row['kind'])].format(row['name'])}"
    return said if not is_number(row["of_tokens"]) else f"{said} ({percent(row['of_tokens'])} of the tokens)"


def _in_examples(data: ReportData) -> Iterable[str]:
    """The training example that holds more than a third of a target's absolute scores."""
    if data.scores is None or len(data.scores) < FEWEST:
        return
    names = data.scores["id"].astype(str).tolist() if "id" in data.scores.columns else None
    for target in (c.removeprefix("score_") for c in map(str, data.scores.columns) if c.startswith("score_")):
        size = data.scores[f"score_{target}"].abs().to_numpy(dtype=np.float64)
        if is_whole(target) and size.max() > LARGE_SHARE * size.sum():
            name = f"example {names[int(size.argmax())]}" if names else "one example"
            share = percent(size.max() / size.sum())
            yield f"For {target}, {name} alone carries {share} of all {count(len(size))} examples' absolute score."


def _in_tokens(views: Iterable[ExampleView], k: int, target: str) -> Iterable[str]:
    """What holds more than a third of the absolute token scores of the shown examples."""
    sizes: dict[tuple[str, str], float] = {}
    total, n = 0.0, 0
    for view in views:
        scores = next(iter(view.scores.values()), None)
        places = np.flatnonzero(view.loss_mask)
        if scores is None or not len(places):
            continue
        n += 1
        values = np.abs(np.asarray(scores)[k, places]).astype(np.float64)
        total += float(values.sum())
        for t, value in zip(places.tolist(), values):
            a, b = (int(x) for x in view.token_offsets[t])
            kinds = [("the token", f"‘{view.text[a:b]}’")]
            kinds += [("tokens of the class", f"‘{view.token_classes[t]}’")] if view.token_classes is not None else []
            kinds += [("the", "first token of the response")] if t == places[0] else []
            kinds += [("the", "last token of the response")] if t == places[-1] else []
            for key in kinds:
                sizes[key] = sizes.get(key, 0.0) + float(value)
    if n < FEWEST or total == 0:
        return
    large = [(kind, name, v / total) for (kind, name), v in sizes.items() if v / total > LARGE_SHARE]
    if large:
        said = listing(f"{percent(share)} in {kind} {name}" for kind, name, share in sorted(large, key=lambda x: -x[2]))
        yield f"For {target}, the total absolute score of the tokens in {count(n)} shown examples lies to {said}."


READ_BY = (
    "Percentile and sd (standard deviations from the mean) place an example among all training examples. Influence is "
    "in nats of f, the mean log-likelihood of the target's correct responses: to first order, one more copy of an "
    "example among N changes f by about influence / N; where that is more than a nat or so, read the order alone. "
    "Positive helps."
)
_STRONGEST = f"{_KEY} influence domain"
SECTION = Section(
    "top",
    "The most and least helpful examples, steps and tokens",
    "Influence says how much more weight on something would raise f, the mean log-likelihood of the target's correct "
    "responses, in nats: positive helps. The percentile and the standardised score (standard deviations from the mean) "
    "place it among all training examples. ‘Format’ is the part of the tokens that the chat template writes, such as "
    "the end of turn. ‘Harmful’ is said only where the 95% interval lies below zero; the end of a "
    "ranking is otherwise ‘least helpful’. Follow an example to its tokens. A token stands in ⟦brackets⟧ in its "
    "context.",
    (
        Table(
            "top",
            "Most and least helpful examples",
            f"{_KEY} percentile standardised influence low high relative cosine format domain difficulty side",
            optional="percentile standardised relative cosine format reading low high domain difficulty preview",
            filters="target reading domain",
            limit=20,
            labels={"standardised": "standardised (sd)", "relative": "minus the domain's mean"},
        ),
        Table(
            "top_steps",
            "Most and least helpful steps",
            f"{_STRONGEST} step behaviours side",
            optional="reading",
            filters="target reading domain",
        ),
        Table(
            "top_tokens",
            "Most and least helpful tokens",
            f"{_STRONGEST} token position side",
            optional="reading",
            filters="target reading domain",
        ),
        Table(
            "shares",
            "What the absolute scores lie in",
            "target kind name share of_tokens n_examples",
            optional="of_tokens",
            filters="target kind",
            percent="share of_tokens",
        ),
    ),
    answer=_answer,
    trust=_trust,
    caveats=concentrations,
    prepare=_prepare,
)
