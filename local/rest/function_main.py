"""Serve one function as its container would: its own source and installed packages, no more.

python -I function_main.py CHECKOUT PORT        (in the source's folder)
"""

import os
import sys
from pathlib import Path


def main(checkout: str, port: str) -> None:
    """The environment was installed from a checkout: its packages must not hide a missing file."""
    root = Path(checkout).resolve()
    sys.path[:] = [p for p in sys.path if p and Path(p).resolve() != root]
    sys.path.insert(0, os.getcwd())
    from functions_framework._cli import _cli

    _cli.main(
        ["--source", "main.py", "--host", "127.0.0.1", "--port", port, "--signature-type", "http"]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
