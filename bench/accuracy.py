"""How well each method's scores predict retraining: LDS over examples, tokens and steps. One JSON object last.

    python -m bench.accuracy                              the world's model, 128 training examples, 100 half subsets
    python -m bench.accuracy --data FOLDER                GSM8K and MBPP text in FOLDER, a small model trained here
    python -m bench.accuracy --run runs/math-code-small   base model, data and queries of a finished run
    python -m bench.accuracy --examples 2000 --with-pool --kinds drop1 --protocols same_seed
    python -m bench.accuracy --smoke                      a random model, a handful of subsets

The plan is written to OUT/plan.json before the first retrain and every run that starts is listed in OUT/runs.jsonl; the
same command goes on from there. ``--worker 1/2`` and ``--worker 2/2`` share the retrains between two processes; the
command without it gathers them. Scores of methods are kept in OUT/scores; ``--scores-only`` makes them and stops.
``--sweep`` varies damping and solver steps on other subsets and other queries.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bench.accuracy_problems import Setting, make_setting

from infra.errors import ArtifactError
from infra.experiments.retraining import (
    Budget,
    Journal,
    MethodScores,
    Problem,
    QueryFolds,
    ScoreSettings,
    SubsetPlan,
    accuracy_table,
    check_by_retraining,
    finished_part,
    fit_budget,
    flat_model,
    lds_table,
    load_plan,
    loss_weights,
    make_subset_plan,
    metasmoothness,
    query_values,
    removal,
    run_retrains,
    score_methods,
    train,
    unrolled,
)
from infra.influence import Damping
from infra.influence.methods import OTHER_NAMES, Ensemble, Method, get_method, is_unrolled, method_names
from infra.train.recorded import RecordedRun

BLOCKS = [
    ("half", "same_seed"),
    ("half", "seed_mean"),
    ("token", "same_seed"),
    ("step_mask", "same_seed"),
    ("step_delete", "same_seed"),
    ("drop1", "same_seed"),
    ("token", "seed_mean"),
    ("step_mask", "seed_mean"),
    ("step_delete", "seed_mean"),
    ("drop1", "seed_mean"),
]
DEFAULT = ("random", "length", "loss", "bm25", "repsim", "gradient", "cosine", "kfac", "ekfac", "ekfac_cg")
DEFAULT = (*DEFAULT, "ekfac_cg_ensemble", "unrolled")
KEYS = {"half": "lds_half", "drop1": "lds_drop1", "token": "token_lds", "step_mask": "step_lds"}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", type=Path, help="a finished run: its base model, training data and queries")
    p.add_argument("--data", type=Path, help="folder with gsm8k_train.jsonl and mbpp.jsonl")
    p.add_argument("--examples", type=int, default=128)
    p.add_argument("--max-length", type=int, default=100, help="tokens; longer records are not used")
    p.add_argument("--with-pool", action="store_true", help="the world's pool may be trained on too")
    p.add_argument("--own-responses", action="store_true", help="queries are the trained model's verified responses")
    p.add_argument("--queries", type=int, default=24, help="per target")
    p.add_argument("--folds", type=int, default=4, help="query folds per target, for intervals")
    p.add_argument("--subsets", type=int, default=100)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--kinds", default="half,token,step_mask,step_delete")
    p.add_argument("--protocols", default="same_seed,seed_mean")
    p.add_argument("--methods", default=",".join(DEFAULT), help="any of: " + ", ".join(method_names()))
    p.add_argument("--minutes", type=float, default=25.0, help="for the retrains; blocks beyond it are left out")
    p.add_argument("--learning-rate", type=float, default=3e-4)
    p.add_argument("--epochs", type=float, default=1.0)
    p.add_argument("--batch-size", type=int, default=8)
    p.add_argument("--eps-root", type=float, default=0.0, help="under AdamW's root, in training and adjoint alike")
    p.add_argument("--tracked", default="mlp")
    p.add_argument("--damping", type=float, default=0.1)
    p.add_argument("--cg-damping", type=float, default=10.0)
    p.add_argument("--cg-steps", type=int, default=20)
    p.add_argument("--cg-fraction", type=float, default=0.25)
    p.add_argument("--members", type=int, default=3, help="models of the ensemble")
    p.add_argument("--unrolled-members", type=int, default=16, help="fresh seeds of the unrolled ensembles")
    p.add_argument(
        "--accuracy", type=int, default=0, help="held-out problems per domain after each half-subset retrain"
    )
    p.add_argument("--removal", default="", help="methods whose top and bottom are removed, e.g. ekfac,unrolled,random")
    p.add_argument("--finite-differences", type=int, default=50, help="weights checked by retraining; 0 leaves it out")
    p.add_argument("--sweep", action="store_true")
    p.add_argument("--worker", help="i/n: make every n-th run of the plan and stop")
    p.add_argument("--finished", action="store_true", help="report the finished blocks; start none of their retrains")
    p.add_argument("--scores-only", action="store_true", help="score with every method, keep the scores and stop")
    p.add_argument("--derivative-only", action="store_true", help="make the finite-difference check and stop")
    p.add_argument("--plan-only", action="store_true", help="write the plan and stop")
    p.add_argument("--stack", type=int, default=1, help="models trained in one vmapped pass")
    p.add_argument("--compile", action="store_true", help="fuse the training passes of retrains (needs g++)")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--boot", type=int, default=1000)
    p.add_argument("--out", type=Path, help="folder for plan, journal and tables (default: a temporary one)")
    p.add_argument("--smoke", action="store_true")
    return p.parse_args(argv)


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class MethodSeconds:
    """Seconds from one method's end to the next one's, kept in a file beside the scores."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    @property
    def of(self) -> dict[str, float]:
        """Method -> seconds."""
        return dict(json.loads(self.path.read_text(encoding="utf-8"))) if self.path.exists() else {}

    def start(self) -> None:
        self.clock = time.perf_counter()

    def done(self, name: str) -> None:
        taken = round(time.perf_counter() - self.clock, 1)
        self.path.write_text(json.dumps({**self.of, name: taken}), encoding="utf-8")
        log(f"{name}: {taken} s")
        self.start()


def finite_differences(problem: Problem, targets: QueryFolds, n: int) -> dict[str, Any]:
    """Unrolled example scores against real retraining in float64, on the first ``n`` + 6 examples and one target."""
    few = list(problem.examples[: n + 6])
    flat = flat_model(problem.flat.into(problem.flat.start).double())
    weights = next(iter(targets.weights.values()))
    group = (weights @ targets.groups)[None]
    queries = [q for q, share in zip(problem.queries, group[0]) if share]
    group = group[:, group[0] > 0]
    plan = problem.training
    order = [i for b in plan.batches for i in b if i < len(few)]
    size = max(1, len(plan.batches[0]))
    batches = tuple(tuple(order[k : k + size]) for k in range(0, len(order), size))
    plan = replace(plan, batches=batches, learning_rates=_stretched(plan.learning_rates, len(batches)))
    found = unrolled(RecordedRun(flat, plan, few), queries, group, form=problem.form)

    def values(rows: np.ndarray) -> np.ndarray:
        out = []
        for w in rows:
            theta = train(flat, plan, few, loss_weights(few, w))
            out.append(float(query_values(flat, theta, queries, problem.form) @ group[0]))
        return np.array(out)

    chosen = np.random.default_rng(0).permutation(len(few))[:n].tolist()
    checked = check_by_retraining(found.examples[:, 0], values, chosen, step_sizes=(1e-4, 1e-5))
    problem.flat.module.float()
    return {
        "weights": len(chosen),
        "examples": len(few),
        "queries": len(queries),
        "steps": plan.steps,
        "errors": {f"{h:g}": e for h, e in checked.errors.items()},
        "clip_margin": found.clip_margin,
        "clipped_steps": found.clipped,
        "passes": max(checked.errors.values()) < 1e-4,
    }


def _stretched(rates: Sequence[float], n: int) -> tuple[float, ...]:
    places = np.linspace(0, len(rates) - 1, n).round().astype(int)
    return tuple(float(rates[i]) for i in places)


def planned(a: argparse.Namespace, problem: Problem, out: Path) -> SubsetPlan:
    """The plan that lies in ``out``, or one sized from retrains timed now and committed there."""
    kinds, protocols = a.kinds.split(","), a.protocols.split(",")
    wanted = [(k, p) for k, p in BLOCKS if k in kinds and p in protocols]

    def of(blocks: Sequence[Sequence[str]]) -> SubsetPlan:
        return make_subset_plan(
            problem,
            [(b[0], b[1]) for b in blocks],
            n_subsets=a.subsets,
            seeds=tuple(range(101, 101 + a.seeds)),
            seed=a.seed,
            extra={"below_protocol": a.smoke},
        )

    if (out / "plan.json").exists():
        plan = of(load_plan(out / "plan.json").settings["blocks"])
    else:
        sizing = fit_budget(problem, wanted, Budget(a.minutes, a.subsets, a.seeds))
        log(
            f"{sizing.retrains_per_minute:.1f} half-data retrains a minute; plan: {sizing.total / 60:.1f} minutes; "
            f"left out: {sizing.left_out}"
        )
        plan = of(sizing.blocks)
    plan.commit(out / "plan.json")
    return plan


def finished(plan: SubsetPlan, out: Path) -> Journal:
    """What has been measured of a plan. Raises ArtifactError when not one block of it is finished."""
    journal = Journal.open(out / "runs.jsonl", plan.hash)
    if not finished_part(plan, journal)[0].settings["blocks"]:
        raise ArtifactError(f"no block of {out / 'plan.json'} is finished; run the command without --finished")
    return journal


def as_keys(table: pd.DataFrame, methods: Sequence[str]) -> dict[str, Any]:
    """The issue's keys from the LDS table's mean over targets."""
    out: dict[str, Any] = {k: None for k in (*KEYS.values(), "step_lds_delete")}
    pooled = table[table.target == ("mean" if "mean" in set(table.target) else table.target.iloc[0])]
    for (kind, protocol), rows in pooled.groupby(["kind", "protocol"], sort=False):
        key = KEYS.get(str(kind), "step_lds_delete")
        by_method = rows.set_index("method")
        entry: dict[str, Any] = {m: numbers(by_method.loc[m], "value", "low", "high") for m in methods}
        first = by_method.iloc[0]
        entry["ceiling"] = {"value": num(first.ceiling), "low": num(first.ceiling_low), "high": num(first.ceiling_high)}
        entry["ratio"] = {m: numbers(by_method.loc[m], "ratio", "ratio_low", "ratio_high") for m in methods}
        entry["n_subsets"], entry["n_seeds"] = int(first.n_subsets), int(first.n_seeds)
        out[key] = {**(out[key] or {}), str(protocol): entry}
    return out


def num(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def numbers(row: Any, value: str, low: str, high: str) -> dict[str, float | None]:
    return {"value": num(row[value]), "low": num(row[low]), "high": num(row[high])}


def method_of(name: str, a: argparse.Namespace) -> Method:
    """The method called ``name`` at the command's settings."""
    found = get_method(name)
    if isinstance(found, Ensemble):
        members = a.unrolled_members if is_unrolled(found) else a.members
        base = OTHER_NAMES.get(name, name).partition("+")[0]
        return replace(found, method=method_of(base, a), members=members)
    if name in ("kfac", "ekfac"):
        return get_method(name, damping=Damping(a.damping))
    if name == "ekfac_cg":
        return get_method(name, damping=Damping(a.cg_damping), steps=a.cg_steps, fraction=a.cg_fraction)
    return found


def sweep(a: argparse.Namespace, setting: Setting, out: Path) -> list[dict[str, Any]]:
    """LDS over damping and solver steps on other half subsets and other queries: nothing here judges a method."""
    problem, targets = setting.tuning, setting.tuning_targets
    plan = make_subset_plan(
        problem,
        [("half", "same_seed")],
        n_subsets=a.subsets,
        seed=a.seed + 7777,
        extra={"below_protocol": a.smoke, "purpose": "tuning"},
    )
    journal = run_retrains(problem, plan, out / "sweep")

    def judged(methods: Mapping[str, Method], **about: float | None) -> list[dict[str, Any]]:
        shared = ScoreSettings(a.tracked, tokens=False)
        scores = score_methods(problem, targets, methods, shared, kept=out / "sweep")
        table, _ = lds_table(problem, plan, journal, scores, targets, n_boot=a.boot)
        return [
            {"method": r.method, "target": r.target, **about, **numbers(r._asdict(), "value", "low", "high")}
            for r in table.itertuples()
        ]

    rows = judged({"gradient": get_method("gradient")}, damping=None)  # what EK-FAC tends to as the damping grows
    for damping in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0):
        pair = {name: get_method(name, damping=Damping(damping)) for name in ("kfac", "ekfac")}
        rows += judged(pair, damping=damping)
    for damping in (0.1, 1.0, 10.0, 100.0):
        for steps in (5, 20):
            solver = get_method("ekfac_cg", damping=Damping(damping), steps=steps, fraction=a.cg_fraction)
            rows += judged({"ekfac_cg": solver}, damping=damping, steps=steps)
    return rows


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    a = arguments(argv)
    if a.smoke:
        a.examples, a.queries, a.folds, a.subsets, a.batch_size, a.max_length = 16, 4, 2, 6, 4, 100
        a.finite_differences, a.boot, a.cg_steps = min(a.finite_differences, 4), 50, 2
        a.members, a.unrolled_members = 2, 2
    torch.set_num_threads(a.threads)
    begun = time.perf_counter()
    out = a.out or Path(tempfile.mkdtemp(prefix="accuracy-"))
    out.mkdir(parents=True, exist_ok=True)
    setting = make_setting(a, out)
    problem, targets, about = setting.problem, setting.targets, setting.about
    log(f"{len(problem.examples)} examples, {len(problem.queries)} queries, {problem.training.steps} steps; {about}")
    if a.derivative_only:
        return {"finite_differences": finite_differences(problem, targets, a.finite_differences), **about}
    plan = planned(a, problem, out)
    committed = plan.hash
    if a.plan_only:
        return {"plan": committed, "retrains": len(plan.runs)}
    methods, seconds = (
        {name: method_of(name, a) for name in a.methods.split(",")},
        MethodSeconds(out / "method-seconds.json"),
    )
    kinds = {k for k, _ in plan.settings["blocks"]}

    def scored() -> dict[str, MethodScores]:
        seconds.start()
        return score_methods(
            problem,
            targets,
            methods,
            ScoreSettings(
                a.tracked,
                a.seed,
                tokens=bool(a.removal) or not kinds <= {"half", "drop1"},
                deletes="step_delete" in kinds,
            ),
            done=seconds.done,
            kept=out / "scores",
        )

    if a.scores_only:
        return {"plan": committed, "methods": sorted(scored())}
    started = time.perf_counter()
    share = None if a.worker is None else (int(a.worker.split("/")[0]), int(a.worker.split("/")[1]))
    journal = finished(plan, out) if a.finished else run_retrains(problem, plan, out, worker=share)
    plan, missing = finished_part(plan, journal)
    retrained = time.perf_counter() - started
    log(f"{len(plan.runs)} runs planned, {len(journal.values)} finished, {retrained:.0f} s now")
    if share is not None:
        return {"plan": committed, "finished": len(journal.values)}
    scores = scored()
    table, pairs = lds_table(problem, plan, journal, scores, targets, n_boot=a.boot)
    table.to_parquet(out / "lds.parquet", index=False)
    pairs.to_parquet(out / "differences.parquet", index=False)
    pooled = pairs[pairs.target == "mean"] if "mean" in set(pairs.target) else pairs
    accuracy, follows = accuracy_table(problem, plan, journal, scores, targets, n_boot=a.boot)
    result: dict[str, Any] = {
        **as_keys(table, list(methods)),
        "pairs": [
            {
                "kind": r.kind,
                "protocol": r.protocol,
                "method": r.better,
                "minus": r.than,
                **numbers(r._asdict(), "difference", "low", "high"),
            }
            for r in pooled.itertuples()
        ],
        "targets": [
            {
                "target": r.target,
                "kind": r.kind,
                "protocol": r.protocol,
                "method": r.method,
                **numbers(r._asdict(), "value", "low", "high"),
                "ceiling": num(r.ceiling),
            }
            for r in table[table.target != "mean"].itertuples()
        ],
        "accuracy_lds": json.loads(accuracy.to_json(orient="records")) if len(accuracy) else [],
        "f_tracks_accuracy": json.loads(follows.to_json(orient="records")) if len(follows) else [],
        "metasmoothness": [
            round(float(s), 4) for s in metasmoothness(problem.flat, problem.training, problem.examples, stack=a.stack)
        ],
        "query_loss_change": removals(a, problem, targets, scores, out),
    }
    if a.finite_differences:
        result["finite_differences"] = finite_differences(problem, targets, a.finite_differences)
    if a.sweep:
        result["sweep"] = sweep(a, setting, out)
    result["gates"] = gates(result, pooled)
    result["settings"] = {
        **{k: v if isinstance(v, int | float | str | bool | None) else str(v) for k, v in vars(a).items()},
        **about,
        "plan": committed,
        "model": problem.model_hash,
        "steps": problem.training.steps,
        "blocks": plan.settings["blocks"],
        "unfinished_blocks": missing,
        "parameters": problem.flat.n_parameters,
        "training_tokens": sum(len(problem.examples[i]) for b in problem.training.batches for i in b),
    }
    result["cost"] = {
        "retrains": len(journal.values),
        "retrain_seconds": round(sum(journal.seconds.values()), 1),
        "retrains_per_minute": round(60 * len(journal.values) / max(sum(journal.seconds.values()), 1e-9), 1),
        "method_seconds": seconds.of,
        "seconds": round(time.perf_counter() - begun, 1),
        "threads": a.threads,
    }
    (out / "accuracy.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def removals(
    a: argparse.Namespace, problem: Problem, targets: QueryFolds, scores: Any, out: Path
) -> list[dict[str, Any]]:
    """Drop the top and bottom 1% of examples, steps and tokens, and the removal curve over examples."""
    chosen = {m: scores[m] for m in a.removal.split(",") if m}
    if not chosen:
        return []
    rows = []
    for unit, fractions in (("example", (0.01, 0.05, 0.1, 0.2, 0.4)), ("step", (0.01,)), ("token", (0.01,))):
        found = removal(problem, chosen, targets, out / f"removal-{unit}", unit=unit, fractions=fractions)
        rows += json.loads(found.drop(columns="fold_changes").to_json(orient="records", double_precision=8))
    return rows


def gates(result: dict[str, Any], pairs: pd.DataFrame) -> dict[str, Any]:
    """The two gates: the finite-difference check, and EK-FAC better than random and than length (half subsets)."""
    out: dict[str, Any] = {"unrolled_is_the_derivative": (result.get("finite_differences") or {}).get("passes")}
    half = pairs[(pairs.kind == "half") & (pairs.better == "ekfac")]
    for other in ("random", "length"):
        rows = half[half.than == other]
        out[f"ekfac_over_{other}"] = {r.protocol: bool(r.low > 0) for r in rows.itertuples()}
    return out


if __name__ == "__main__":
    print(json.dumps(main()))
