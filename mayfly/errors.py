"""Errors that people read: what happened, what it means for the bill, what to do next."""


class MayflyError(Exception):
    """A failure told in three lines; `exit_code` is what the command ends with.

    what: names the thing and the value ("No session 'x' in project p").
    meaning: what it means; always says whether money is running where that is known.
    remedy: one command to paste, or one thing to change.
    """

    exit_code = 1

    def __init__(self, what: str, meaning: str = "", remedy: str = "") -> None:
        super().__init__("\n".join(line for line in (what, meaning, remedy) if line))
        self.what, self.meaning, self.remedy = what, meaning, remedy


class FailedError(MayflyError):
    """It was tried and did not work."""


class WrongInputError(MayflyError):
    """The input cannot be meant; nothing was attempted."""

    exit_code = 2


class RefusedError(MayflyError):
    """The answer is no: no capacity, no quota, does not fit."""

    exit_code = 3


def explained(error: Exception) -> MayflyError:
    """Any error as one that people can read. MAYFLY_DEBUG=1 shows the traceback instead."""
    from mayfly.cloud.errors import CloudError

    if isinstance(error, CloudError) and not error.meaning:
        return error.in_three_lines()
    if isinstance(error, MayflyError):
        return error
    return FailedError(
        f"mayfly stopped over an error it does not know: {type(error).__name__}: {error}",
        "What was running before is unchanged; `mayfly status` shows what costs money now.",
        "For the details: run the same command with MAYFLY_DEBUG=1",
    )
