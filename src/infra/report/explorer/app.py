"""The explorer's web application: a page, its assets, and questions answered from the run.

Every answer carries a content policy that forbids other origins, and requests are accepted only under the names the
server was started with, so that a page elsewhere cannot read the run through the reader's browser.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from infra import __version__
from infra.errors import InfraError, InputError
from infra.report.encode import encode_example, plain
from infra.report.explorer import compare, queries
from infra.report.explorer.example import Opener
from infra.report.explorer.export import MOST_BYTES, export_rows, sent_json, sent_table, table_bytes
from infra.report.explorer.facets import facet_counts, facets, histogram
from infra.report.explorer.guard import inside
from infra.report.explorer.index import RunIndex
from infra.report.explorer.links import has_links
from infra.report.explorer.rows import PAGE, Query, find_rows
from infra.report.explorer.selection import selection
from infra.report.page import asset, script
from infra.report.tablespec import table_spec

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SCRIPTS = (
    *("common.js", "tables.js", "codec.js", "token-rows.js", "tokens.js"),
    *("explorer-ask.js", "explorer-state.js", "explorer-keys.js", "explorer-filters.js"),
    *("explorer-select.js", "explorer-examples.js", "explorer-answer.js", "explorer-queries.js"),
    *("explorer-tables.js", "explorer.js"),
)
REPORT_POLICY = "frame-ancestors 'none'"
Answer = Callable[[Request], Any]


def build_app(
    run: RunIndex, other: RunIndex | None = None, hosts: Sequence[str] = ("127.0.0.1", "localhost")
) -> Starlette:
    """The application over ``run``, comparing it with ``other`` where given; ``hosts`` are the accepted Host names."""
    opener, known = Opener(run), facets(run)
    counted = [f["name"] for f in known if "values" in f]
    api: Mapping[str, Answer] = {
        "run": partial(_run, run=run, other=other, opener=opener, known=known),
        "rows": lambda request: find_rows(run, parse_query(request.query_params)),
        "facets": lambda request: facet_counts(run, parse_query(request.query_params), counted),
        "histogram": lambda request: histogram(run, parse_query(request.query_params), request.query_params["of"]),
        "queries": partial(_queries, run=run),
        "query": lambda request: queries.open_query(run, request.query_params["query"]),
        "links": lambda request: queries.queries_of(run, request.query_params["id"]),
        "scale": lambda request: opener.scale(request.query_params["target"]),
        "tables": lambda request: _tables(run),
        "compare": partial(_compare, run=run, other=other),
    }
    routes = [
        Route("/", partial(_text, "explorer.html", "text/html")),
        Route("/explorer.css", partial(_css)),
        Route("/explorer.js", partial(_js)),
        Route("/report", partial(_report, run=run)),
        Route("/api/example", partial(_example, run=run, opener=opener)),
        Route("/api/export", partial(_export, run=run)),
        Route("/api/parquet", _parquet, methods=["POST"]),
        Route("/api/select", partial(_select, run=run), methods=["POST"]),
        *(Route(f"/api/{name}", partial(_json, answer=answer)) for name, answer in api.items()),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))])


async def _text(name: str, media: str, request: Request) -> Response:
    return Response(asset(name), media_type=media, headers=HEADERS)


async def _css(request: Request) -> Response:
    return Response(
        "".join(map(asset, ("base.css", "tokens.css", "explorer.css"))), media_type="text/css", headers=HEADERS
    )


async def _js(request: Request) -> Response:
    return Response(script(*SCRIPTS), media_type="text/javascript", headers=HEADERS)


async def _report(request: Request, run: RunIndex) -> Response:
    file = run.root / "report.html"
    try:
        inside(run.root, file)
    except InfraError as error:
        return Response(str(error), status_code=400, media_type="text/plain", headers=HEADERS)
    if not file.is_file():
        return Response("this run has no report.html", status_code=404, media_type="text/plain", headers=HEADERS)
    return FileResponse(file, headers={**HEADERS, "Content-Security-Policy": REPORT_POLICY})


async def _json(request: Request, answer: Answer) -> Response:
    return await _answered(lambda: JSONResponse(answer(request), headers=HEADERS))


async def _answered(work: Callable[[], Response]) -> Response:
    """What ``work`` gives, in a thread; a request that cannot be answered is told why, with status 400."""
    try:
        return await run_in_threadpool(work)
    except InfraError as error:
        said = str(error)
    except KeyError as error:
        said = f"the request lacks {error}"
    except (duckdb.Error, pa.ArrowInvalid, OSError) as error:
        said = (
            f"the run's files do not allow this: {(str(error).strip().splitlines() or [type(error).__name__])[0][:300]}"
        )
    return JSONResponse({"error": said}, status_code=400, headers=HEADERS)


async def _example(request: Request, run: RunIndex, opener: Opener) -> Response:
    """The blob of one example with the tokens of one target, or of one query."""

    def work() -> bytes:
        id_ = request.query_params["id"]
        query = request.query_params.get("query")
        view = opener.open(id_, request.query_params.get("target") if query is None else None)
        if query is not None:
            found = queries.query_tokens(run, query, id_)
            if found is None or len(found[2]) != len(view.token_offsets):
                raise InputError(f"no token scores of example {id_} were kept for query {query}")
            kind, influence, tokens = found
            view = replace(
                view,
                scores={kind: tokens[None]},
                targets=[f"query {query}"],
                example_scores=np.array([influence], np.float32),
            )
        return encode_example(view, None)

    return await _answered(lambda: Response(work(), media_type="application/octet-stream", headers=HEADERS))


async def _export(request: Request, run: RunIndex) -> Response:
    """The examples that the list shows, all of them, as a file."""
    form = request.query_params.get("format", "csv")
    return await _answered(lambda: _file(export_rows(run, parse_query(request.query_params), form), form))


async def _parquet(request: Request) -> Response:
    """A table that the page sends, as a Parquet file."""
    return await _sent(request, lambda body: _file(table_bytes(sent_table(body), "parquet"), "parquet"))


async def _select(request: Request, run: RunIndex) -> Response:
    """A selection of the run's records as a zip file; its account is a header."""

    def work(body: bytes) -> Response:
        asked = sent_json(body)
        shown = None if asked.get("shown") is None else parse_query(asked["shown"])
        packed, account = selection(run, asked.get("settings"), shown, bool(asked.get("messages")))
        return _file(packed, "zip", {"Selection": json.dumps(account)})

    return await _sent(request, work)


async def _sent(request: Request, work: Callable[[bytes], Response]) -> Response:
    """What ``work`` makes of the JSON that the page sends. A page elsewhere cannot send that type unasked."""
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and int(length) <= MOST_BYTES):
        return JSONResponse({"error": "the table is too large to be made a file: filter it"}, 400, HEADERS)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return JSONResponse({"error": "send application/json"}, 400, HEADERS)
    body = await request.body()
    return await _answered(lambda: work(body))


def _file(content: bytes, form: str, more: Mapping[str, str] | None = None) -> Response:
    kinds = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet", "zip": "application/zip"}
    named = {"Content-Disposition": f'attachment; filename="examples.{form}"'}
    return Response(content, media_type=kinds[form], headers={**HEADERS, **named, **(more or {})})


def _run(
    request: Request, run: RunIndex, other: RunIndex | None, opener: Opener, known: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    sets: list[list[Any]] = next((f["values"] for f in known if f["name"] == "set" and "values" in f), [])
    return {
        "name": run.root.resolve().name,
        "version": __version__,
        "n": run.n,
        "targets": run.targets,
        "token_targets": opener.available(),
        "facets": [f for f in known if f["name"] != "set"],
        "sets": sorted((v for v, _ in sets if v is not None), key=lambda v: (v != "train", v)),
        "columns": run.columns,
        "searchable": run.searchable.is_set(),
        "search_problem": run.search_problem,
        "queries": queries.has_queries(run),
        "links": has_links(run),
        "report": run.paths.page.is_file(),
        "other": None if other is None else other.root.resolve().name,
        "other_targets": [] if other is None else other.targets,
    }


def parse_query(parameters: Mapping[str, str]) -> Query:
    """A :class:`Query` from the list's URL parameters. Raises :class:`InputError` naming a malformed one."""
    try:
        equals = json.loads(parameters.get("equals") or "{}")
        ranges = json.loads(parameters.get("ranges") or "{}")
        return Query(
            search=parameters.get("search", "")[:400],
            equals={str(k): ["\0" if x is None else str(x) for x in v] for k, v in equals.items()},
            ranges={str(k): (_bound(v[0]), _bound(v[1])) for k, v in ranges.items()},
            sort=parameters.get("sort", ""),
            descending=parameters.get("way", "desc") != "asc",
            offset=_number(parameters, "offset", 0),
            limit=_number(parameters, "limit", PAGE),
        )
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise InputError(f"the list cannot be asked like this: {error}") from error


def _bound(value: Any) -> float | None:
    if value is None or value == "":
        return None
    if math.isnan(bound := float(value)):
        raise ValueError("a bound is no number")
    return bound


def _number(parameters: Mapping[str, str], name: str, default: int) -> int:
    """A whole number among the parameters, between 0 and what a row number can be. Raises :class:`InputError`."""
    text = parameters.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError(
            f"the list cannot be asked like this: {name} is {text[:40]!r}; give a whole number up to 999999999"
        )
    return int(text)


def _queries(request: Request, run: RunIndex) -> dict[str, Any]:
    if not queries.has_queries(run):
        return {"total": 0, "rows": []}
    p = request.query_params
    return queries.find_queries(run, p.get("search", ""), p.get("target", ""), _number(p, "offset", 0))


def _tables(run: RunIndex) -> list[dict[str, Any]]:
    return [table_spec(f.stem, pd.read_parquet(f), limit=25) for f in run.paths.tables]


def _compare(request: Request, run: RunIndex, other: RunIndex | None) -> dict[str, Any]:
    """Ranks by one target here, and by another target here or by one of the other run."""
    asked = request.query_params
    here = asked.get("run") == "this"
    if other is None and not here:
        raise InputError("no second run was given; start with --compare RUN")
    second = run if other is None or here else other
    ranks = compare.rank_changes(run, second, asked["target"], asked.get("against", ""), asked.get("set", "all"))
    found = {"n": ranks["n"], "spearman": plain(ranks["spearman"])}
    tables = {"ranks": table_spec("rank_changes", ranks["table"], limit=25)}
    if second is not run:
        effects = compare.effect_differences(run, second)
        tables["recipe"] = table_spec("recipe_differences", compare.recipe_differences(run, second), limit=50)
        if effects is not None:
            tables["effects"] = table_spec("effect_differences", effects, limit=25)
    return {**found, **tables}


def open_roots(run: Path, other: Path | None) -> tuple[RunIndex, RunIndex | None]:
    """Both runs opened, the second without its texts indexed."""
    from infra.report.explorer.index import open_run

    return open_run(run), None if other is None else open_run(other, words=False)
