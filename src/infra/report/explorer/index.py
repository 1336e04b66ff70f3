"""A run folder as the explorer sees it: example rows in DuckDB, words of the texts, where each row's tokens lie.

What costs time (the words of every text) is kept in an index in the user's cache
(:mod:`infra.report.explorer.guard`) and made again when the files it was made from change. Token scores and texts stay
in the run's Parquet files and are read one row at a time.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from infra.errors import ArtifactError
from infra.layout import Run
from infra.report.explorer.guard import index_database, refuse_links_out

INDEX_VERSION = 2
MOST_LETTERS = 64
"""Letters of a word that the index keeps."""
_RESERVED = ("_row", "_text")


@dataclass
class RunIndex:
    """An opened run. ``columns``: attribute name -> 'text', 'number' or 'flag'; ``targets`` in the file's order."""

    root: Path
    database: duckdb.DuckDBPyConnection
    columns: dict[str, str]
    targets: list[str]
    n: int
    rows: dict[str, dict[str, tuple[Path, int]]] = field(default_factory=dict)
    searchable: threading.Event = field(default_factory=threading.Event)
    search_problem: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    making: threading.Lock = field(default_factory=threading.Lock)
    """Held while a table is made, so that no two requests make the same."""

    @property
    def paths(self) -> Run:
        """Where the run's files lie."""
        return Run(self.root)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own for one request or thread."""
        with self.lock:  # a connection refuses a second call while one is under way
            return self.database.cursor()

    def place(self, kind: str, id_: str) -> tuple[Path, int] | None:
        """File and row of an id among the ``records`` or ``tokens`` files."""
        return self.rows.get(kind, {}).get(id_)


def open_run(root: Path, *, words: bool = True, wait: bool = False) -> RunIndex:
    """Open a run for browsing. Words are indexed in the background unless ``wait``; without ``words``, not at all.

    Raises :class:`ArtifactError` when the folder holds no scored examples, a file cannot be read, or a link leads out
    of the folder.
    """
    root = Path(root)
    examples = Run(root).example_scores
    if not examples.is_file():
        raise ArtifactError(
            f"{examples} is missing: {root} is not the folder of a finished `infra run` or `infra score`; "
            "give that folder, or finish the run with the same command"
        )
    refuse_links_out(root)
    database = index_database(root, _fingerprint(root, examples))
    try:
        _load_examples(database, examples)
    except duckdb.Error as error:
        raise ArtifactError(f"{examples} cannot be read ({_first(error)}); delete it and run again") from error
    described = database.execute("DESCRIBE examples").fetchall()
    kinds = {name: kind_of(sql) for name, sql, *_ in described}
    for needed in ("id",):
        if needed not in kinds:
            raise ArtifactError(f"{examples} has no column '{needed}'; run the scores stage again")
    targets = [c.removeprefix("score_") for c in kinds if c.startswith("score_")]
    columns = {
        c: k for c, k in kinds.items() if k and not c.startswith("score_") and c not in (*_RESERVED, "preview", "id")
    }
    n = int(_one(database.execute("SELECT count(*) FROM examples")))
    run = RunIndex(root, database, columns, targets, n)
    run.rows["records"] = _places(run.paths.record_files)
    run.rows["tokens"] = _places(run.paths.token_files())
    if words:
        thread = threading.Thread(target=_index_words, args=(run,), daemon=True)
        thread.start()
        if wait:
            thread.join()
    return run


def kind_of(sql_type: str) -> str:
    """How a column can be filtered: 'text', 'number', 'flag', or '' for lists and other shapes."""
    base = sql_type.split("(")[0]
    if sql_type.endswith("[]"):
        return ""
    if base in ("VARCHAR", "ENUM"):
        return "text"
    if base == "BOOLEAN":
        return "flag"
    numeric = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
    return "number" if base in (*numeric, "FLOAT", "DOUBLE", "DECIMAL") else ""


def _places(files: list[Path]) -> dict[str, tuple[Path, int]]:
    """id -> (file, row number), from the id columns alone. The first file wins."""
    found: dict[str, tuple[Path, int]] = {}
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
            if "id" not in parquet.schema_arrow.names:
                continue
            ids = parquet.read(columns=["id"]).column("id").to_pylist()
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{file} cannot be read ({_first(error)}); delete it and run again") from error
        for row, id_ in enumerate(ids):
            found.setdefault(str(id_), (file, row))
    return found


def _fingerprint(root: Path, examples: Path) -> str:
    """Changes when a file that the index is made from changes."""
    run = Run(root)
    files = [examples, *run.record_files, *(f for f in (run.step_scores, run.query_scores) if f.is_file())]
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(json.dumps([INDEX_VERSION, stats]).encode()).hexdigest()[:16]


def _load_examples(database: duckdb.DuckDBPyConnection, examples: Path) -> None:
    tables = {name for (name,) in database.execute("SHOW TABLES").fetchall()}
    if "examples" not in tables:
        database.execute(
            "CREATE TABLE examples AS SELECT (row_number() OVER () - 1)::INTEGER AS _row, * FROM read_parquet(?)",
            [str(examples)],
        )


def _index_words(run: RunIndex) -> None:
    """Words of every text, as (word number, row) pairs in word order, and the texts as words between spaces."""
    con = run.cursor()
    try:
        tables = {name for (name,) in con.execute("SHOW TABLES").fetchall()}
        if not {"vocabulary", "postings", "texts"} <= tables:
            con.execute("BEGIN")
            con.execute(f"CREATE OR REPLACE TABLE texts AS {_texts_sql(run)}")
            con.execute(
                "CREATE TEMP TABLE pairs AS SELECT DISTINCT left(word, ?) AS word, _row FROM (SELECT _row, "
                "unnest(list_distinct(string_split(text, ' '))) AS word FROM texts) WHERE word <> ''",
                [MOST_LETTERS],
            )
            con.execute(
                "CREATE OR REPLACE TABLE vocabulary AS SELECT (row_number() OVER (ORDER BY word))::INTEGER AS number, "
                "word FROM (SELECT DISTINCT word FROM pairs) ORDER BY word"
            )
            con.execute(
                "CREATE OR REPLACE TABLE postings AS SELECT v.number, p._row FROM pairs p "
                "JOIN vocabulary v USING (word) ORDER BY v.number, p._row"
            )
            con.execute("DROP TABLE pairs")
            con.execute("COMMIT")
        run.searchable.set()
    except duckdb.Error as error:
        run.search_problem = f"texts could not be indexed for search: {_first(error)}"
    finally:
        con.close()


def _texts_sql(run: RunIndex) -> str:
    """SQL for (row, text in words): over the records' messages where they are, else over the previews."""
    files = run.paths.record_files
    with_messages = [f for f in files if "messages" in pq.read_schema(f).names]
    if with_messages:
        names = ", ".join("'" + str(f).replace("'", "''") + "'" for f in with_messages)
        source = (
            f"SELECT e._row, unnest(r.messages).content AS text FROM read_parquet([{names}], union_by_name=true) r "
            "JOIN examples e ON e.id = r.id"
        )
    elif "preview" in {name for name, *_ in run.cursor().execute("DESCRIBE examples").fetchall()}:
        source = "SELECT _row, preview AS text FROM examples"
    else:
        source = "SELECT _row, id AS text FROM examples"
    words = "regexp_replace(lower(text), '[^\\p{L}\\p{N}_]+', ' ', 'g')"
    return f"SELECT _row, ' ' || trim({words}) || ' ' AS text FROM ({source}) ORDER BY _row"


def _one(result: duckdb.DuckDBPyConnection) -> int:
    row = result.fetchone()
    return row[0] if row else 0


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
