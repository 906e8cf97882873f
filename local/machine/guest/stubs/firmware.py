"""mokutil."""

from stub import config, fail


def main(name: str, argv: list[str]) -> int:
    if argv != ["--sb-state"]:
        return fail(f"mokutil: unrecognized option '{' '.join(argv)}'")
    print("SecureBoot enabled" if config()["secure_boot"] else "SecureBoot disabled")
    return 0
