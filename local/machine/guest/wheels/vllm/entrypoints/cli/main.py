"""`vllm serve MODEL [flags]`, `vllm --version`."""

import sys

from vllm import __version__, arguments, launch


def main() -> int:
    """The exit status; argparse itself ends with 2."""
    parser = arguments.parser()
    options = parser.parse_args()
    if options.version:
        print(__version__)
        return 0
    if options.subparser != "serve":
        parser.print_help()
        return 1
    return launch.serve(options)


if __name__ == "__main__":
    sys.exit(main())
