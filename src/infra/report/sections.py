"""The page from top to bottom: which figure and which table stand where, and what introduces them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from infra.report import figures as fig
from infra.report.data import TABLE_COLUMNS, ReportData, table
from infra.report.runinfo import LISTS
from infra.report.sentences import Sentence, answer
from infra.report.wording import count, listing


@dataclass(frozen=True)
class ShownFigure:
    """A figure as the template wants it; ``first`` is the variant shown before anyone switches."""

    panels: Sequence[tuple[str, str]]
    caption: str
    variant: str
    first: bool


@dataclass(frozen=True)
class Section:
    """One section of the page: ``forms`` are the values of its switch, ``images`` the caller's figures."""

    id: str
    title: str
    intro: str
    figures: Sequence[ShownFigure] = ()
    tables: Sequence[str] = ()
    forms: Sequence[tuple[str, str]] = ()
    images: Sequence[tuple[str, str]] = field(default_factory=tuple)


def sections(data: ReportData) -> list[Section]:
    """All sections between the honesty box and the examples that this data can fill."""
    return [s for s in _all(data) if s.figures or s.tables or s.images]


def _all(data: ReportData) -> Iterator[Section]:
    yield _section(
        data,
        "accuracy",
        "Accuracy",
        "Verified answers on problems that no target and no choice has seen: the base "
        "model, the model fine-tuned on the original data, and one model per arm and seed.",
        [fig.accuracy_figure(data)],
        ["accuracy"],
    )
    yield _section(
        data,
        "arms",
        "Changing the data and training again",
        "The only causal evidence: models trained on changed data, "
        "against models trained on equally changed data that differ in nothing but difficulty.",
        [fig.contrast_figure(data)],
        ["contrasts"],
    )
    yield _section(
        data,
        "strategies",
        "Using influence to make better data",
        "Training sets selected, pruned, weighted or cut by influence, each against a control that does as much at "
        "random. Exploratory comparisons; p is corrected over this table.",
        [fig.contrast_figure(data, "strategies")],
        ["strategies"],
    )
    yield _section(
        data,
        "slope",
        "Where it gets hard",
        "Accuracy over the difficulty fixed before any training.",
        [fig.slope_figure(data)],
        ["slope"],
    )
    yield _section(
        data,
        "effects",
        "Which data helps which skill",
        "How much more (or less) an example of one kind raises the "
        "likelihood of correct answers than the other examples of its domain. Harder problems have longer "
        "solutions and "
        "losses are summed over tokens, so the same effect is shown raw, per token and at matched length.",
        fig.effect_figures(data, "effects", "difficulty"),
        ["effects"],
    )
    found = table(data, "effects")
    others = [] if found is None else list(dict.fromkeys(found["attribute"].astype(str)))
    for attribute in (a for a in others if a not in ("difficulty", "difficulty_band")):
        yield _section(
            data,
            "effects-" + "".join(c if c.isalnum() else "-" for c in attribute),
            f"By {attribute.replace('_', ' ')}",
            f"The same for the values of ‘{attribute.replace('_', ' ')}’; numbers in the table of effects above.",
            fig.effect_figures(data, "effects", attribute),
            [],
        )
    yield _section(
        data,
        "domain_means",
        "Does a domain help at all",
        "Mean influence of a domain's examples on each target, against zero: what more data of this kind would "
        "do, not what kind of it would do best.",
        fig.effect_figures(data, "domain_means"),
        ["domain_means"],
    )
    yield _section(
        data,
        "agreement",
        "Do the skills want the same data",
        "Each training example's influence on one target against another: together along the diagonal, an example that "
        "helps one helps the other.",
        [fig.scatter_figure(data)],
        ["agreement"],
    )
    yield _section(
        data,
        "predicted",
        "Predicted and measured",
        "The sum of the influence of what goes in, minus that of what goes out, beside what retraining did to f.",
        [fig.arms_figure(data)],
        ["arms"],
    )
    yield _section(
        data,
        "validation",
        "Do the scores predict retraining",
        "LDS: over random subsets of the training data, the rank correlation of a method's summed scores with f after "
        "training again. ‘same_seed’ repeats the recorded data order; ‘seed_mean’ averages fresh orders, and its "
        "ceiling is what noise leaves possible.",
        [],
        [
            "validation_lds",
            "validation_differences",
            "validation_removal",
            "validation_accuracy",
            "validation_tracking",
        ],
    )
    yield _section(
        data,
        "hypotheses",
        "The paper's findings, put to this run",
        "‘Supported’ only by retraining against the main "
        "control; from influence alone the words are ‘influence suggests’.",
        [],
        ["hypotheses"],
    )
    yield _section(
        data,
        "behaviours",
        "Steps: which behaviours help",
        "Influence summed over the tokens of a step, against the other steps of the domain; length-matched means steps "
        "of equal length.",
        fig.effect_figures(data, "behaviours"),
        ["behaviours", "judge_agreement"],
    )
    yield _section(
        data,
        "step_definitions",
        "A step masked and a step deleted",
        "A step's influence can mean the sum of its tokens with the text kept (‘mask’, used everywhere above), or what "
        "the example loses when the step's text is cut out and the rest is scored again (‘delete’). Spearman "
        "correlation of the two over the steps of a sample: over all, within examples, and per token.",
        [],
        ["step_definitions"],
    )
    yield _section(
        data,
        "token_classes",
        "Tokens: which classes matter",
        "Influence summed over tokens of one class.",
        fig.effect_figures(data, "token_classes"),
        ["token_classes"],
    )
    yield _section(
        data,
        "parts",
        "Thinking and solution",
        "Influence summed over the tokens of a part of the response.",
        fig.effect_figures(data, "parts"),
        ["parts"],
    )
    yield _section(
        data,
        "permutation",
        "Could chance look like this",
        "Labels shuffled within their domain (and length decile), or among the steps of one example: how often the "
        "largest difference would be as large. The rows of target ‘(table)’ speak for a whole table at once.",
        [],
        ["permutation"],
    )
    yield _section(
        data,
        "targets",
        "What was counted as correct",
        "f is the mean log-likelihood of these responses.",
        [],
        ["targets"],
    )
    images = tuple(data.figures.items())
    if images:
        yield Section("figures", "Further figures", "", images=images)
    others = [
        name
        for name in data.tables
        if name not in TABLE_COLUMNS and name not in LISTS and table(data, name) is not None
    ]
    yield Section("tables", "Further tables", "", tables=others)
    yield _section(
        data,
        "top",
        "The most helpful and most harmful examples, steps and tokens",
        "Per target. Follow an example to its tokens. A token stands in ⟦brackets⟧ in its context.",
        [],
        ["top", "top_steps", "top_tokens"],
    )


def _section(
    data: ReportData,
    name: str,
    title: str,
    intro: str,
    figures: Sequence[fig.Figure | None],
    tables: Sequence[str],
) -> Section:
    present = [f for f in figures if f is not None and f.panels]
    forms = [(f.variant, fig.FORM_TITLES[f.variant].lower()) for f in present if f.variant]
    shown = [ShownFigure(f.panels, f.caption, f.variant, i == 0) for i, f in enumerate(present)]
    return Section(name, title, intro, shown, [t for t in tables if table(data, t) is not None], forms)


def answer_by_topic(data: ReportData) -> list[tuple[str, list[Sentence]]]:
    """The sentences of the answer under their questions, in order."""
    return [(topic, list(group)) for topic, group in groupby(answer(data), key=lambda s: s.topic)]


def question(data: ReportData) -> str:
    """What was asked: ``results['question']``, or a sentence from counts, tasks and arms."""
    given = data.results.get("question")
    if isinstance(given, str) and given.strip():
        return given
    counts = data.results.get("counts")
    n = counts.get("train") if isinstance(counts, Mapping) else None
    n = n.get("n") if isinstance(n, Mapping) else n
    accuracy, targets = table(data, "accuracy"), table(data, "targets")
    skills = list(dict.fromkeys(map(str, accuracy["task"]))) if accuracy is not None else []
    if not skills and targets is not None:
        skills = list(dict.fromkeys(map(str, targets["domain"])))
    which = f"Which of {count(n)} training examples" if n is not None else "Which training examples"
    better = listing(skills) or "its targets"
    asked = f"{which}, which steps in them and which tokens made the model better at {better}?"
    arms = list(dict.fromkeys(map(str, accuracy["arm"]))) if accuracy is not None else []
    if "flip" in arms and "same-difficulty-swap" in arms:
        asked += (
            " And does replacing easy math by harder math, and hard code by easier code, beat replacing "
            "the same examples "
            "by new ones of the same difficulty?"
        )
    return asked


def facts(data: ReportData) -> list[tuple[str, str]]:
    """A line of key facts under the title, from ``results``."""
    results = data.results
    model = results.get("model")
    out: list[tuple[str, str]] = []
    if isinstance(model, Mapping):
        out.append(("Model", str(model.get("name", model.get("path", "–")))))
        if model.get("parameters") is not None:
            out.append(("Parameters", count(model["parameters"])))
    elif model:
        out.append(("Model", str(model)))
    counts = results.get("counts")
    if isinstance(counts, Mapping):
        sizes = {str(k): v.get("n") if isinstance(v, Mapping) else v for k, v in counts.items()}
        out.extend((k.replace("_", " ").capitalize(), count(n)) for k, n in list(sizes.items())[:4] if n)
    seeds = results.get("seeds")
    if seeds is not None:
        out.append(("Seeds", str(len(seeds)) if isinstance(seeds, (list, tuple)) else str(seeds)))
    return out
