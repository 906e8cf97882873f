"""What Google means when it refuses a whole project: an API or billing is off, or there is none.

Read from its sentences: the status is 403 for nearly all of them, whatever is wrong.
"""

import re
from dataclasses import dataclass

NOTHING = "Nothing was changed by this call."


@dataclass(frozen=True)
class Denial:
    """pattern: of Google's sentence; its groups fill `what` and `remedy`."""

    kind: str
    pattern: re.Pattern[str]
    what: str
    remedy: str


API_OFF, BILLING_OFF, NO_PROJECT, ORG_POLICY = "api-off", "billing-off", "no-project", "org-policy"
DENIALS = (
    Denial(
        API_OFF,
        re.compile(
            r"has not been used in project (?P<project>\S+) before or it is disabled"
            r".*/apis/api/(?P<api>[a-z.]+)/"
        ),
        "The API {api} is off in project {project}.",
        "gcloud services enable {api} --project {project}",
    ),
    Denial(
        BILLING_OFF,
        re.compile(
            r"requires billing to be enabled|[Bb]illing must be enabled"
            r"|billing account for the owning project is disabled|billing account .* not found"
            r"|[Bb]illing is disabled"
        ),
        "Billing is off for the project.",
        "gcloud billing projects link PROJECT --billing-account ACCOUNT",
    ),
    Denial(
        ORG_POLICY,
        re.compile(r"(?P<constraint>constraints/[\w.]+) violated for project (?P<project>\S+)\."),
        "A policy of the organisation, {constraint}, forbids this in project {project}.",
        "ask whoever administers the organisation for an exception for project {project}",
    ),
    Denial(
        NO_PROJECT,
        re.compile(
            r"(?:Permission denied on resource project|Failed to find project|Unknown project id:"
            r"|on project|service usage of projects/)\s*'?(?P<project>[\w.:-]+?)'?"
            r"(?:\.?$| \(or it may not exist\)|\. )"
        ),
        "There is no project {project}, or you have no rights in it.",
        "gcloud projects list",
    ),
)


def denial(message: str) -> tuple[str, str, str] | None:
    """(kind, what, remedy) of a refusal that is known; None for any other."""
    for known in DENIALS:
        found = known.pattern.search(message)
        if found:
            groups = found.groupdict()
            return known.kind, known.what.format(**groups), known.remedy.format(**groups)
    return None
