"""What a person can do about a verdict that stops the ladder: one command or one thing."""

LATER = "Try: the same command again in some minutes"
REMEDIES = {
    "quota-global": "Try: mayfly quota request PROFILE, which asks for GPUS_ALL_REGIONS and "
    "CPUS_ALL_REGIONS too, where they are short",
    "quota-region": "Try: mayfly quota check PROFILE, then: mayfly quota request PROFILE",
    "api-off": "Try: gcloud services enable compute.googleapis.com",
    "billing-off": "Try: gcloud billing projects link PROJECT --billing-account ACCOUNT",
    "org-policy": "Try: ask the organisation's administrator to allow what is named above; "
    "without nodeInternet mayfly needs no external address",
    "credentials": "Try: gcloud auth application-default login",
    "permission": "Try: ask the project's owner for the right that is named above",
    "rate-limit": LATER,
    "not-ready": LATER,
    "not-offered": "Try: --machine or --provisioning with another value",
    "not-found": "Try: pulumi up --stack foundation",
    "bad-request": "Try: mayfly plan, and pulumi preview, which show what is asked for",
}
"""By the id of a rule in `mayfly.capacity`."""


def remedy(rule_id: str) -> str:
    """For the rule that decided; a general one where none is known."""
    return REMEDIES.get(rule_id, "Try: mayfly status; Pulumi's own words are above")
