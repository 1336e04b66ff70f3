"""`infra view RUN`: a local explorer over a finished run, straight from its Parquet files.

``serve(Path("runs/default"))`` listens at http://127.0.0.1:7860 until interrupted; the Starlette application
alone is ``infra.report.explorer.app.build_app(open_run(folder))``.
"""

from infra.report.explorer.index import RunIndex, open_run
from infra.report.explorer.server import serve

__all__ = ["RunIndex", "open_run", "serve"]
