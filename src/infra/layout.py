"""Where everything of a run lies: the only place that spells the names of a run's files.

::

    run = Run(Path("runs/my-run"))
    pandas.read_parquet(run.example_scores)

A path may be of a file that is not made yet, or that this run has no use for.
"""

from __future__ import annotations

from pathlib import Path

from infra.plugins import label_of

BASE = "base"
EXPLAINED = "sft/original-s0"
"""The model that is explained: the first one fine-tuned on the original training set."""
SETS = ("train", "pool")


class Run:
    """The layout of one run folder. Each path lies in the folder of the step that writes it."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)

    @property
    def root(self) -> Path:
        """The run folder."""
        return self._root

    def step(self, name: str) -> Path:
        """The folder of a step."""
        return self.root / name

    # what the command itself writes, at the top

    @property
    def recipe_file(self) -> Path:
        """The recipe as it was last run."""
        return self.root / "recipe.json"

    @property
    def page(self) -> Path:
        """The report, copied to the top when everything is done."""
        return self.root / "report.html"

    @property
    def summary(self) -> Path:
        """Results with times and memory, when everything is done."""
        return self.root / "summary.json"

    @property
    def batches(self) -> Path:
        """Tokens of a batch that were chosen for this run, by section of the recipe, where the recipe sets none."""
        return self.root / "batches.json"

    @property
    def precision(self) -> Path:
        """The precision of matrix products that was chosen for this run, and what was measured for it."""
        return self.root / "precision.json"

    # records and tokens

    def records(self, which: str) -> Path:
        """Records of ``train``, ``pool`` or ``pretrain``."""
        return self.step("records") / f"{which}.parquet"

    def problems(self, task: str) -> Path:
        """A benchmark's problems."""
        return self.step("records") / "problems" / f"{label_of(task)}.parquet"

    @property
    def record_files(self) -> list[Path]:
        """Every set of records there is, sorted by name."""
        return sorted(self.step("records").glob("*.parquet"))

    @property
    def origins(self) -> Path:
        """Where each record that was read comes from, the set it is in, and why where it is in none."""
        return self.step("records") / "origins.parquet"

    @property
    def dropped(self) -> Path:
        """Records left out, and why."""
        return self.step("records") / "dropped.json"

    @property
    def counts(self) -> Path:
        """Records of each set, by domain and level."""
        return self.step("records") / "counts.json"

    def tokenized(self, which: str) -> Path:
        """The tokens of ``train`` or ``pool``: a :class:`infra.data.TokenizedFile`."""
        return self.step("tokenized") / f"{which}.parquet"

    @property
    def tokenized_notes(self) -> Path:
        """The chat template that was used, and the records that were passed over."""
        return self.step("tokenized") / "notes.json"

    # models and answers

    def model(self, name: str) -> Path:
        """The model that the step ``base`` or ``sft/...`` trained."""
        return self.step(name) / "model"

    def answers(self, name: str) -> Path:
        """Verified answers: of the step ``evals/...`` or of ``responses``."""
        return self.step(name) / "rows.parquet"

    # targets and directions

    @property
    def queries(self) -> Path:
        """The targets' responses, as records."""
        return self.step("targets") / "queries.parquet"

    @property
    def tokenized_queries(self) -> Path:
        """The tokens of :attr:`queries`."""
        return self.step("targets") / "tokenized.parquet"

    @property
    def query_folds(self) -> Path:
        """Target, difficulty and fold of each query."""
        return self.step("targets") / "folds.parquet"

    @property
    def target_summary(self) -> Path:
        """How many problems of each target were tried, solved and kept."""
        return self.step("targets") / "targets.json"

    @property
    def directions(self) -> Path:
        """The folder of the fitted method: the folds' directions where it has them."""
        return self.step("directions")

    @property
    def folds(self) -> Path:
        """One row per fold, in the order of the directions."""
        return self.step("directions") / "folds.parquet"

    @property
    def target_weights(self) -> Path:
        """Each target as weights over folds."""
        return self.step("directions") / "targets.json"

    @property
    def convergence(self) -> Path:
        """Whether the explained model is near the end of training on the data, and the measurements behind it."""
        return self.step("convergence") / "convergence.json"

    @property
    def warmup(self) -> Path:
        """How `infra score --warmup` fine-tuned the explained model."""
        return self.step(EXPLAINED) / "warmup.json"

    @property
    def coverage(self) -> Path:
        """Which weights are tracked, and their share of the model."""
        return self.step("directions") / "coverage.json"

    @property
    def method_index(self) -> Path:
        """The fitted method's name, and the hash of the model it was fitted on."""
        return self.step("directions") / "method.json"

    @property
    def curvature(self) -> Path:
        """The folder of the fitted curvature."""
        return self.step("curvature")

    # scores

    @property
    def example_scores(self) -> Path:
        """One row per example of training set and pool: attributes and ``score_<target>``."""
        return self.step("scores") / "examples.parquet"

    @property
    def fold_scores(self) -> Path:
        """Scores of the same rows on every fold, float32 ``[N, folds]``."""
        return self.step("scores") / "folds.npy"

    def token_file(self, which: str, number: int) -> Path:
        """One file of token scores of a set."""
        return self.step("scores") / "tokens" / f"{which}-{number:05d}.parquet"

    def token_files(self, which: str | None = None) -> list[Path]:
        """The files of token scores there are, of one set or of all."""
        return sorted((self.step("scores") / "tokens").glob(f"{which or ''}*.parquet"))

    @property
    def score_check(self) -> Path:
        """How far sums of token scores are from example scores."""
        return self.step("scores") / "check.json"

    @property
    def query_scores(self) -> Path:
        """Every query's strongest examples, with their token scores."""
        return self.step("queries") / "queries.parquet"

    @property
    def query_accuracy(self) -> Path:
        """What the low rank of :attr:`query_scores` loses."""
        return self.step("queries") / "accuracy.json"

    @property
    def links(self) -> Path:
        """Steps of every query's strongest examples against the tokens of its answer."""
        return self.step("links") / "links.parquet"

    @property
    def link_answers(self) -> Path:
        """The answers of :attr:`links`: their tokens and steps."""
        return self.step("links") / "answers.parquet"

    # spans and effects

    @property
    def step_scores(self) -> Path:
        """One row per reasoning step: ranges, part, behaviours, ``loss_<target>`` sums."""
        return self.step("spans") / "steps.parquet"

    def strongest(self, kind: str) -> Path:
        """The strongest ``steps`` or ``tokens`` of each target."""
        return self.step("spans") / f"top_{kind}.parquet"

    @property
    def shares(self) -> Path:
        """What share of the absolute token scores lies in each token, class of tokens and position."""
        return self.step("spans") / "shares.parquet"

    @property
    def span_folds(self) -> Path:
        """The folds of :meth:`span_rows`, fewer than those of the directions."""
        return self.step("spans") / "folds.parquet"

    def span_rows(self, name: str) -> Path:
        """A sample's ``fold_steps`` or ``groups`` of tokens."""
        return self.step("spans") / f"{name}.parquet"

    def span_values(self, name: str) -> Path:
        """The scores of :meth:`span_rows`, float32 ``[rows, folds]``."""
        return self.step("spans") / f"{name}.npy"

    @property
    def deleted_steps(self) -> Path:
        """Steps scored masked and deleted."""
        return self.step("spans") / "deleted.parquet"

    @property
    def judged_steps(self) -> Path:
        """Behaviours by the rules and by a judge."""
        return self.step("spans") / "judged.parquet"

    def effect(self, name: str) -> Path:
        """One table of effects."""
        return self.step("effects") / f"{name}.parquet"

    @property
    def effect_tables(self) -> list[Path]:
        """Every table of effects there is."""
        return sorted(self.step("effects").glob("*.parquet"))

    # experiments and conclusions

    def arm(self, step: str, name: str) -> Path:
        """A training set that the step ``arms`` or ``strategies`` made."""
        return self.step(step) / f"{name}.parquet"

    def arm_manifest(self, step: str, name: str) -> Path:
        """What such a set changed, and why."""
        return self.step(step) / f"{name}.json"

    @property
    def validation(self) -> Path:
        """The folder of LDS tables and retrains."""
        return self.step("validation")

    @property
    def measured(self) -> Path:
        """f of every model on every fold."""
        return self.step("measure") / "f.parquet"

    @property
    def results(self) -> Path:
        """Everything the report says."""
        return self.step("results") / "results.json"

    def table(self, name: str) -> Path:
        """One of the report's tables."""
        return self.step("results") / "tables" / f"{name}.parquet"

    @property
    def tables(self) -> list[Path]:
        """Every table of the report there is."""
        return sorted((self.step("results") / "tables").glob("*.parquet"))

    @property
    def report(self) -> Path:
        """The page, in the step that makes it."""
        return self.step("report") / "report.html"
