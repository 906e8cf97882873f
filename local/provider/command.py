"""`pulumi-resource-command`: python -m local.provider.command ENGINE_ADDRESS"""

from __future__ import annotations

import sys

from .shell import VERSION, Commands
from .wire import serve

if __name__ == "__main__":
    serve(sys.argv[1:], VERSION, Commands)
