"""What a shell may complete: names that this machine knows. No call, no message, no failure.

Imported with the command line itself, so it imports nothing heavy.
"""

from pathlib import Path

PROFILES = Path(__file__).resolve().parent.parent / "profiles"
FOUNDATION = "foundation"


def sessions(incomplete: str) -> list[str]:
    """The stacks with a file in this checkout that `down` and `status` may mean."""
    found = [name for name in _stacks() if name != FOUNDATION]
    return [name for name in found if name.startswith(incomplete)]


def profiles(incomplete: str) -> list[str]:
    """The shipped profiles."""
    return sorted(p.stem for p in PROFILES.glob("*.yaml") if p.stem.startswith(incomplete))


def _stacks() -> list[str]:
    try:
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / "Pulumi.yaml").is_file():
                files = folder.glob("Pulumi.*.yaml")
                return sorted(f.name.removeprefix("Pulumi.").removesuffix(".yaml") for f in files)
    except OSError:
        pass  # a folder that is gone, or may not be read: nothing to complete
    return []
