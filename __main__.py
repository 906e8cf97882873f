"""settings -> component -> outputs: one program for the three layers (docs/architecture.md)."""

import pulumi

from components import config, foundation, seed, session
from mayfly.settings import FoundationSettings, SeedSettings


def main() -> None:
    """Build the layer that the stack's configuration names."""
    settings = config.read_settings()
    if isinstance(settings, FoundationSettings):
        outputs = foundation.build(settings)
    elif isinstance(settings, SeedSettings):
        outputs = seed.build(settings)
    else:
        outputs = session.build(settings)
    if not isinstance(settings, FoundationSettings):
        config.warn_of_local_backend()
    for name, value in outputs.items():
        pulumi.export(name, value)


main()
