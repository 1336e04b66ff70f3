"""Coverage-guided fuzzing of one parser with atheris: ``python -m tests.fuzz.guided PARSER FOLDER [libFuzzer flags]``.

Ends with libFuzzer's "Done N runs", or prints the first exception that is none of the project's.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["infra.pipeline.recipe", "infra.data", "infra.store", "infra.evals.tasks"]):
    from tests.fuzz import targets, wild

from infra.errors import InfraError


def main() -> None:
    parser, folder = sys.argv[1], Path(sys.argv[2])
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    starts: dict[str, tuple[bytes, ...]] = {
        "recipe": targets.RECIPES,
        "records": targets.good_files(),
        "manifest": tuple(map(targets.dump, (targets.MANIFEST_VALUE, targets.CACHE_LINE, targets.RUNTIME))),
        "livecodebench": tuple(map(targets.dump, targets.good_livecodebench())),
    }
    for i, data in enumerate(starts[parser]):
        (corpus / str(i)).write_bytes(data)
    suffixes = (".jsonl", ".json", ".parquet", ".jsonl.gz")
    files = targets.files(folder)
    task = targets.get_task("livecodebench")
    parse = {
        "recipe": targets.recipe_bytes(folder),
        "records": lambda data: files((data, suffixes[len(data) % 4], ("raise", "skip")[len(data) % 2])),
        "manifest": targets.manifests(folder),
        "livecodebench": lambda data: task.load(targets.write(folder / "test.jsonl", data)),
    }[parser]

    def one(data: bytes) -> None:
        with contextlib.suppress(InfraError), wild.deadline():
            parse(data)

    atheris.Setup([sys.argv[0], *sys.argv[3:], str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
