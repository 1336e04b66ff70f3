"""`python -m infra` is the command `infra`."""

from infra.cli import main

main()
