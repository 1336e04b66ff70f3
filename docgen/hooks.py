"""What mkdocs calls while it builds the site: adds the generated pages, the recipe's schema and the notebooks."""

from __future__ import annotations

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from docgen.api import ROOMS, api_page  # noqa: E402 (the path is set above)
from docgen.commands import commands_page  # noqa: E402
from docgen.files import files_page  # noqa: E402
from docgen.notebooks import NOTEBOOKS, notebook_page  # noqa: E402
from docgen.recipe import recipe_page, recipe_schema  # noqa: E402
from infra.data.adapters.page import schemas_page  # noqa: E402


def generated() -> dict[str, str]:
    """Place below docs/ -> content of every page and file that is made at build time."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/recipe.md": recipe_page(),
        "reference/recipe.schema.json": recipe_schema(),
        "reference/files.md": files_page(),
        "reference/schemas.md": schemas_page(),
    }
    pages |= {f"reference/api/{room.removeprefix('infra.')}.md": api_page(room) for room in ROOMS}
    return pages | {f"tutorial/{path.stem.replace('_', '-')}.md": notebook_page(path) for path in NOTEBOOKS}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """mkdocs' event: the generated files join those of docs/."""
    for place, content in generated().items():
        files.append(File.generated(config, place, content=content))
    return files
