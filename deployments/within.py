"""Runs a program with Prefect's settings as Outflow wants them.

python -m deployments.within prefect server start --host 0.0.0.0
"""

import os
import sys

from deployments import environment


def main() -> None:
    """Become the program that the arguments name."""
    if len(sys.argv) == 1:
        sys.exit("which program? As in: python -m deployments.within prefect server start")
    environment.apply()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the person who calls it chooses the program


if __name__ == "__main__":
    main()
