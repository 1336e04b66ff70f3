"""The command `infra` in the tests' own process, which has paid for its imports."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from infra.cli import main


def infra(*arguments: object, cwd: str | Path = ".") -> subprocess.CompletedProcess[str]:
    """Run the command in the folder ``cwd``. Returns its exit code and what it printed."""
    out, err, argv = io.StringIO(), io.StringIO(), ["infra", *map(str, arguments)]
    with chdir(cwd), patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(argv, int(str(code or 0)), out.getvalue(), err.getvalue())
