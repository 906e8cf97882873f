"""Cloud Storage's preconditions on an object's generation and metageneration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.rest.errors import ApiError

FAILED = "At least one of the pre-conditions you specified did not hold."


@dataclass(frozen=True)
class Preconditions:
    """What a request demands of the live object; None = nothing. Generation 0 = there is none."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], headers: Mapping[str, str]) -> Preconditions:
        """From the JSON API's query parameters, or the XML API's headers."""

        def read(parameter: str, header: str) -> int | None:
            text = query.get(parameter) or headers.get(header)
            return None if text is None else _int64(parameter, text)

        return cls(
            read("ifGenerationMatch", "x-goog-if-generation-match"),
            read("ifGenerationNotMatch", "x-goog-if-generation-not-match"),
            read("ifMetagenerationMatch", "x-goog-if-metageneration-match"),
            read("ifMetagenerationNotMatch", "x-goog-if-metageneration-not-match"),
        )

    @property
    def any(self) -> bool:
        return self != Preconditions()

    def check(self, current: Mapping[str, Any] | None, *, reading: bool = False) -> None:
        """Raise 412 when `current` does not fit; a read that wants "not this one" gets 304."""
        generation = int(current["generation"]) if current else 0
        metageneration = int(current["metageneration"]) if current else 0
        if self.generation_match not in (None, generation):
            raise _failed()
        if current and self.metageneration_match not in (None, metageneration):
            raise _failed()
        for unwanted, found in (
            (self.generation_not_match, generation),
            (self.metageneration_not_match, metageneration),
        ):
            if unwanted is not None and unwanted == found:
                raise ApiError(304, "Not Modified") if reading else _failed()


def _failed() -> ApiError:
    return ApiError(412, FAILED, reason="conditionNotMet")


def _int64(parameter: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ApiError(
            400, f"Invalid value for {parameter}: '{text}'. Expected an int64.", reason="invalid"
        ) from None
