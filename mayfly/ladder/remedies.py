"""What a person can do about a verdict that stops the ladder: one command or one thing."""

REMEDIES = (
    (
        "over all regions",
        "Try: mayfly quota request PROFILE, which asks for GPUS_ALL_REGIONS and CPUS_ALL_REGIONS "
        "too, where they are short",
    ),
    ("region's quota", "Try: mayfly quota check PROFILE, then: mayfly quota request PROFILE"),
    ("API is off", "Try: gcloud services enable compute.googleapis.com"),
    ("billing", "Try: gcloud billing projects link PROJECT --billing-account ACCOUNT"),
    (
        "organisation policy",
        "Try: ask the organisation's administrator to allow what is named "
        "above; without nodeInternet mayfly needs no external address",
    ),
    ("credentials", "Try: gcloud auth application-default login"),
    ("permission", "Try: ask the project's owner for the right that is named above"),
    ("too many calls", "Try: the same command again in some minutes"),
    ("not ready", "Try: the same command again in some minutes"),
    ("does not offer", "Try: --machine or --provisioning with another value"),
    ("does not exist", "Try: pulumi up --stack foundation"),
    ("refuses the request", "Try: mayfly plan, and pulumi preview, which show what is asked for"),
)


def remedy(reason: str) -> str:
    """For a verdict's reason; a general one where none is known."""
    for part, words in REMEDIES:
        if part in reason:
            return words
    return "Try: mayfly status; Pulumi's own words are above"
