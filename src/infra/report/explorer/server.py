"""Serving the explorer on this machine, and saying so when it is reachable from others."""

from __future__ import annotations

import ipaddress
import socket
import sys
from contextlib import suppress
from pathlib import Path

import duckdb

from infra.errors import InputError, ResourceError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(run_dir: Path, host: str = "127.0.0.1", port: int = 7860, compare: Path | None = None) -> None:
    """Serve the explorer of ``run_dir`` until interrupted, beside ``compare`` where given.

    Raises :class:`InputError` when the extra ``view`` is not installed, :class:`infra.errors.ArtifactError`
    for a folder that is no run, :class:`ResourceError` when the port is taken.
    """
    try:
        import uvicorn

        from infra.report.explorer.app import build_app, open_roots
    except ImportError as error:
        raise InputError(
            f"the explorer needs {error.name}: install it with pip install 'infra-attribution[view]'"
        ) from error
    run, other = open_roots(Path(run_dir), compare)
    _check_port(host, port)
    if is_loopback(host):
        hosts = ["127.0.0.1", "localhost", "[::1]", host]
    else:
        hosts = ["*"]
        print(
            f"warning: listening on {host}, not only on this machine: whoever can reach port {port} can read this run, "
            "its texts included; there is no password",
            file=sys.stderr,
        )
    shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    print(f"{run.n:,} examples of {run.root} at http://{shown}:{port}  (Ctrl-C stops)")
    try:
        uvicorn.run(build_app(run, other, hosts), host=host, port=port, log_level="warning", access_log=False)
    finally:
        for opened in (run, *(() if other is None else (other,))):
            with suppress(duckdb.Error):  # still indexing words: the thread ends with the process
                opened.database.close()


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(
                f"port {port} on {host} cannot be used ({error.strerror}); choose another with --port"
            ) from error
