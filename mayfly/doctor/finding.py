"""One trouble: what was seen, what it means, what to paste."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """id: stable, for scripts. found: what was seen, in a line. remedy: a command, without "Try:".

    grave: it stops a session, or costs money that nobody meant to spend; else it is worth knowing.
    subject: the thing itself, as `--fix` needs it.
    """

    id: str
    meaning: str
    remedy: str
    found: str = ""
    grave: bool = True
    subject: str = ""
