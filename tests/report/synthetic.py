"""A made-up run for looking at the page: seeded, plausible shapes, no claim about anything real."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from infra.report import ExampleView, ReportData
from infra.report.plot import Panel
from infra.report.svg import inline_svg

TARGETS = ("math", "code", "math-hard", "code-easy")
ARMS = ("base", "sft", "flip", "same-difficulty-swap", "random-swap", "reverse-flip")
HOSTILE = (
    "</script><script>window.pwned=1</script><!-- <img src=x onerror=alert(1)> \u202egnp.exe\u202c "
    "zero\u200bwidth\u2060joined العربية עברית 👩‍👩‍👧‍👦🇫🇷 e\u0301 \ud83d lone & \"quotes\" 'single' `tick` "
    "${x} \x00\x07 =1+1"
)

_SENTENCES = (
    ("plan", "Let me set this up step by step. "),
    ("subgoal", "First I need the number of marbles Ana keeps. "),
    ("computation", "She starts with {a} and gives away {b}, so {a} - {b} = {c}. "),
    ("fact", "The sum of the first n odd numbers is $n^2$. "),
    ("verification", "Let me check: {c} + {b} = {a}, which is right. "),
    ("backtracking", "Wait, that is wrong, I added where I should subtract. "),
    ("exploration", "Alternatively, count from the other end. "),
    ("computation", "```python\ndef f(xs):\n    return [x * {b} for x in xs if x > {c}]\n```\n"),
    ("exploration_after_answer", "Another way to see it: pair the terms. "),
)


def _tokens(text: str, rng: np.random.Generator) -> np.ndarray:
    """Cut ``text`` in pieces of one to five characters, after a space where there is one."""
    cuts = [0]
    while cuts[-1] < len(text):
        step = int(rng.integers(1, 6))
        space = text.find(" ", cuts[-1] + 1, cuts[-1] + step + 3)
        cuts.append(min(len(text), space if space > 0 else cuts[-1] + step))
    return np.array([cuts[:-1], cuts[1:]], dtype=np.int32).T


def example(i: int, rng: np.random.Generator, targets: tuple[str, ...] = TARGETS, sentences: int = 9) -> ExampleView:
    """One example with behaviours per sentence and heavy-tailed token scores."""
    a, b = int(rng.integers(10, 99)), int(rng.integers(2, 9))
    asked = f"Ana has {a} marbles and gives {b} to each friend. How many are left? [{i}]"
    prompt = f"<|user|>\n{asked}\n<|assistant|>\n"
    text, spans = prompt, []
    for j in range(sentences):
        label, sentence = _SENTENCES[(j * 7 + i) % len(_SENTENCES)]
        piece = sentence.format(a=a, b=b, c=a - b)
        spans.append((len(text), len(text) + len(piece), label))
        text += piece
    spans.append((len(text), len(text) + 12, "final_answer"))
    text += f"\\boxed{{{a - b}}}" + "<|end|>"
    offsets = _tokens(text, rng)
    mask = offsets[:, 0] >= len(prompt)
    scores = rng.standard_t(3, size=(2, len(targets), len(offsets))).astype(np.float32) * np.float32(3e-3)
    scores[1] = 0.8 * scores[0] + 0.6 * scores[1]
    scores[0][:, ~mask] = 0
    steps = []
    for start, end, label in spans:
        inside = np.flatnonzero((offsets[:, 0] >= start) & (offsets[:, 0] < end))
        if len(inside):
            steps.append((int(inside[0]), int(inside[-1]) + 1, (label,)))
    return ExampleView(
        id=f"r{i:05x}c0ffee",
        text=text,
        token_offsets=offsets,
        loss_mask=mask,
        targets=targets,
        steps=steps,
        attributes={
            "domain": "math" if i % 2 else "code",
            "difficulty": 1 + i % 5,
            "set": "train",
            "family": f"family-{i % 7}",
        },
        scores={"loss": scores[0], "position": scores[1]},
    )


def hostile_example(rng: np.random.Generator) -> ExampleView:
    """An example whose id, attributes and text try to leave their place."""
    offsets = np.array([[i, min(i + 3, len(HOSTILE))] for i in range(0, len(HOSTILE), 3)], dtype=np.int32)
    scores = rng.normal(size=(4, len(offsets))).astype(np.float32)
    return ExampleView(
        id="<b>r</b></script>",
        text=HOSTILE,
        token_offsets=offsets,
        loss_mask=np.ones(len(offsets), bool),
        targets=TARGETS,
        attributes={"domain": HOSTILE, "difficulty": 3},
        scores={"loss": scores},
        steps=((0, 5, ("plan",)),),
    )


def _effects(
    rng: np.random.Generator, attribute: str, values: tuple[Any, ...], targets: tuple[str, ...] = TARGETS
) -> pd.DataFrame:
    rows = []
    for target in targets:
        for domain in ("math", "code"):
            for form in ("raw", "per_token", "length_matched"):
                for k, value in enumerate(values):
                    size = 2e-4 if form == "per_token" else 2e-2
                    effect, half = size * rng.normal(0.4 * (k - 2), 0.6), size * abs(rng.normal(0.7, 0.2))
                    q = float(np.exp(-2.2 * abs(effect) / half))
                    rows.append(
                        dict(
                            target=target,
                            attribute=attribute,
                            value=value,
                            domain=domain,
                            form=form,
                            effect=effect,
                            low=effect - half,
                            high=effect + half,
                            n=int(rng.integers(60, 400)),
                            n_rest=int(rng.integers(800, 1200)),
                            overlap_n=int(rng.integers(20, 300)),
                            p=q / 2,
                            q=q,
                            status="undecided" if rng.random() < 0.08 else "ok",
                            label="associational",
                            reliability=float(rng.uniform(0.4, 0.95)),
                            validity="not validated",
                            mde=half * 1.4,
                        )
                    )
    return pd.DataFrame(rows)


def tables(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """One of every table the page knows."""
    level = {
        "base": 0.31,
        "sft": 0.55,
        "flip": 0.575,
        "same-difficulty-swap": 0.562,
        "random-swap": 0.56,
        "reverse-flip": 0.53,
    }
    accuracy, slope, contrasts, arms = [], [], [], []
    for task in ("math", "code"):
        for arm in ARMS:
            for seed in range(1 if arm == "base" else 3):
                p = float(np.clip(level[arm] + rng.normal(0, 0.015) - 0.06 * (task == "code"), 0, 1))
                accuracy.append(
                    dict(
                        arm=arm,
                        seed=None if arm == "base" else seed,
                        task=task,
                        split="held-out",
                        n=400,
                        accuracy=p,
                        low=p - 0.048,
                        high=p + 0.048,
                    )
                )
            for d in range(1, 6):
                slope.append(
                    dict(
                        arm=arm,
                        task=task,
                        difficulty=d,
                        n=80,
                        accuracy=float(np.clip(level[arm] * 1.6 - 0.13 * d + rng.normal(0, 0.02), 0.02, 0.98)),
                    )
                )
        for arm in ("same-difficulty-swap", "random-swap", "reverse-flip", "sft"):
            d = level["flip"] - level[arm] + float(rng.normal(0, 0.006))
            primary = arm == "same-difficulty-swap"
            contrasts.append(
                dict(
                    task=task,
                    contrast=f"flip - {arm}",
                    role="primary" if primary else "exploratory",
                    difference=d,
                    low=d - 0.02,
                    high=d + 0.02,
                    p=0.2,
                    p_holm=0.4 if primary else None,
                    n_problems=400,
                    n_seeds=3,
                    mde=0.029,
                    label="causal",
                )
            )
        for arm in ARMS[2:]:
            x = float(rng.normal(0.4, 1))
            y = 0.6 * x + float(rng.normal(0, 0.4))
            arms.append(
                dict(
                    arm=arm,
                    target=task,
                    predicted=x,
                    measured_f=y,
                    f_low=y - 0.3,
                    f_high=y + 0.3,
                    measured_accuracy=y / 40,
                    acc_low=y / 40 - 0.02,
                    acc_high=y / 40 + 0.02,
                )
            )
    targets = [
        dict(
            target=t,
            domain=t.split("-")[0],
            tried=400,
            solved=180 - 50 * i,
            kept=180 - 50 * i,
            source="verified" if i < 3 else "reference",
            status="ok" if i < 3 else "too few",
        )
        for i, t in enumerate(TARGETS)
    ]
    hypotheses = [
        dict(
            name="two-way-transfer",
            statement="Math data helps code and code data helps math.",
            answer="influence suggests",
            evidence="mean influence of code data on math +0.003",
            interval="[0.001, 0.005]",
            n=3000,
        ),
        dict(
            name="difficulty-flip",
            statement="Harder math and easier code in the data beat a same-difficulty swap.",
            answer="undecided",
            evidence="flip minus same-difficulty-swap",
            interval="[-0.8, 3.1]",
            n=400,
        ),
        dict(
            name="exploration",
            statement="Exploration helps both, even after the right answer is reached.",
            answer="contradicted",
            evidence="effect of exploration steps",
            interval="[-0.03, -0.01]",
            n=812,
        ),
    ]
    top = [
        dict(
            target=t,
            side=side,
            rank=r,
            id=f"r{(r * 13 + k) % 40:05x}c0ffee",
            influence=(1 if side == "top" else -1) * (0.9 - 0.05 * r),
            domain="math",
            difficulty=1 + r % 5,
            preview="Ana has 42 marbles and gives 3 to each friend. How many are left?",
        )
        for k, t in enumerate(TARGETS)
        for side in ("top", "bottom")
        for r in range(1, 11)
    ]
    return {
        "accuracy": pd.DataFrame(accuracy),
        "slope": pd.DataFrame(slope),
        "contrasts": pd.DataFrame(contrasts),
        "arms": pd.DataFrame(arms),
        "targets": pd.DataFrame(targets),
        "hypotheses": pd.DataFrame(hypotheses),
        "top": pd.DataFrame(top),
        "effects": pd.concat(
            [
                _effects(rng, "difficulty", (1, 2, 3, 4, 5)),
                _effects(rng, "style", ("symbolic", "conversational")),
            ]
        ),
        "behaviours": _effects(
            rng,
            "behaviour",
            ("plan", "subgoal", "computation", "verification", "backtracking", "exploration"),
            (*TARGETS, "math:5"),
        ),
        "token_classes": _effects(rng, "token_class", ("connective", "number", "operator", "latex", "prose")),
        **_further(rng),
    }


def _further(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Agreement of targets, permutation tests, both definitions of a step, strongest steps and tokens."""
    shuffled = [
        dict(
            table="effects",
            target=t,
            attribute="difficulty",
            domain="math",
            statistic=float(rng.uniform(1, 4)),
            value="5",
            p=float(rng.uniform()),
            n=400,
            n_permutations=1000,
        )
        for t in ("(table)", *TARGETS)
    ]
    definitions = [
        dict(
            target=t,
            domain="all",
            n_steps=540,
            n_examples=60,
            rho=0.8,
            low=0.7,
            high=0.9,
            rho_within=0.7,
            rho_per_token=0.6,
            same_sign=0.85,
        )
        for t in TARGETS[:2]
    ]
    strongest = [
        dict(target=t, side=side, rank=r, id=f"r{r:05x}c0ffee", influence=0.3 / r, domain="math")
        for t in TARGETS[:2]
        for side in ("top", "bottom")
        for r in range(1, 9)
    ]
    steps = pd.DataFrame(strongest).assign(step=3, behaviours="computation, fact", preview="so 4 + 4 = 8.")
    tokens = pd.DataFrame(strongest).assign(position=17, token=" 8", preview="so 4 + 4 =⟦ 8⟧.↵Then")
    return {
        "agreement": pd.DataFrame([dict(a="math", b="code", rho=0.4, low=0.35, high=0.45, n=3000)]),
        "permutation": pd.DataFrame(shuffled),
        "step_definitions": pd.DataFrame(definitions),
        "top_steps": steps,
        "top_tokens": tokens,
    }


def scores(n: int = 400) -> pd.DataFrame:
    """Example scores of two targets that partly agree, for the scatter."""
    rng = np.random.default_rng(5)
    math, domain = rng.standard_t(4, n), np.where(np.arange(n) % 2, "math", "code")
    return pd.DataFrame({"domain": domain, "score_math": math, "score_code": 0.5 * math + rng.normal(size=n)})


def report(n_examples: int = 20, seed: int = 0, quick: bool = False, hostile: bool = True) -> ReportData:
    """A whole made-up run; example 1 is the hostile one."""
    rng = np.random.default_rng(seed)
    views = [example(i, rng) for i in range(n_examples)]
    if hostile:
        views.insert(1, hostile_example(rng))
    results = {
        "model": {"name": "world-base (Qwen2, 2.1M)", "hash": "9f2c" * 16, "parameters": 2_104_832},
        "counts": {"train": 3000, "pool": 3000, "held_out": 800},
        "seeds": [0, 1, 2],
        "settings": {
            "recipe": "default",
            "sft": {"lr": 1e-3, "epochs": 3, "batch": 32},
            "damping": 0.1,
            "fraction": 0.3,
        },
        "versions": {"infra": "0.1.0", "torch": "2.13.0", "transformers": "5.23", "python": "3.11"},
        "leaks": [{"id": "r0123", "set": "train", "overlaps": "math500/17", "rule": "13-gram"}],
    }
    return ReportData(
        "Default world: which data taught it math and code",
        quick,
        ("A made-up run for tests.",),
        results,
        tables(rng),
        {},
        views,
        scores(),
    )


def small_report() -> ReportData:
    """One of every table, cut to one target, one task and one form: a page that is drawn in a moment."""
    data = report(n_examples=1)
    kept = {}
    for name, frame in data.tables.items():
        if "form" in frame.columns:
            frame = frame[(frame["form"] == "raw") & (frame["target"] == "math")]
        if "task" in frame.columns:
            frame = frame[frame["task"] == "math"]
        kept[name] = frame
    return ReportData(data.title, data.quick, data.notes, data.results, kept, {}, data.examples, data.scores)


def tips(panel: Panel) -> list[str]:
    """The tooltips of a panel, in order."""
    root = ElementTree.fromstring(inline_svg(panel, "t"))
    return [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}title")]
