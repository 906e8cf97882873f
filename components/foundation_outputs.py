"""What seed and session read of the foundation; nothing of theirs exists without it."""

from dataclasses import dataclass, field, fields
from typing import Any

import pulumi

from mayfly import names
from mayfly.settings import NOTHING_DONE, VmSettings


@dataclass(frozen=True, kw_only=True)
class FoundationOutputs:
    """The foundation's stack outputs. subnets: region -> self link. *_secret: ids, no values."""

    project: str
    regions: list[str]
    subnets: dict[str, str]
    network: str
    node_email: str
    seeder_email: str
    reaper_email: str
    weights_bucket: str
    cache_bucket: str
    state_bucket: str
    api_key: str = field(repr=False)
    api_key_secret: str
    hf_token_secret: str
    reaper_uri: str
    reaper_job: str


def read(settings: VmSettings) -> FoundationOutputs:
    """The outputs of the foundation that `settings` names, or a RunError that says what to run.

    This is the read behind a StackReference, made as a call: a reference to a stack that is not
    there ends the program in the engine's words, before ours could say what to do.
    """
    stack = settings.foundation
    outputs = _outputs(stack)
    missing = [f.name for f in fields(FoundationOutputs) if f.name not in outputs]
    if missing:
        raise pulumi.RunError(
            f"The foundation '{stack}' is not complete: it has no output {', '.join(missing)}.\n"
            f"{NOTHING_DONE}\nTry: pulumi up --stack {stack}"
        )
    found = FoundationOutputs(**{f.name: outputs[f.name] for f in fields(FoundationOutputs)})
    _check(settings, found)
    return found


def _check(settings: VmSettings, found: FoundationOutputs) -> None:
    if found.project != settings.project:
        raise pulumi.RunError(
            f"The foundation '{settings.foundation}' is in project {found.project}, "
            f"this stack in {settings.project}.\n{NOTHING_DONE}\n"
            f"Try: pulumi config set gcp:project {found.project} --stack {settings.session}"
        )
    if settings.region not in found.subnets:
        raise pulumi.RunError(
            f"mayfly:zone: '{settings.zone}' lies outside the foundation's regions. "
            f"Valid: zones in {', '.join(found.subnets)}.\n{NOTHING_DONE}\n"
            f"Try: add {settings.region} to mayfly:regions of stack {settings.foundation}, "
            f"then pulumi up --stack {settings.foundation}"
        )


def _outputs(stack: str) -> dict[str, Any]:
    try:
        answer = pulumi.runtime.invoke(
            "pulumi:pulumi:readStackOutputs", {"name": names.full_stack(stack)}
        )
    except Exception as error:
        # The SDK raises a bare Exception here: the text is all there is to go by.
        if "unknown stack" not in str(error):
            raise
        raise pulumi.RunError(
            f"There is no foundation: no stack '{stack}' in this backend.\n{NOTHING_DONE}\n"
            f"Try: pulumi stack init {stack} && pulumi up --stack {stack}"
        ) from None
    outputs = answer.value.get("outputs") if answer.value else None
    return dict(outputs or {})
