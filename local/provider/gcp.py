"""`pulumi-resource-gcp`: python -m local.provider.gcp ENGINE_ADDRESS"""

from __future__ import annotations

import sys

from .google import VERSION, Google
from .wire import serve

if __name__ == "__main__":
    serve(sys.argv[1:], VERSION, Google)
