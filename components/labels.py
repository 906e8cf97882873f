"""Labels: slugs that say whose a resource is. Google takes `[a-z0-9_-]`, 63 characters at most."""

from mayfly import names
from mayfly.settings import VmSettings

FOUNDATION = {names.LABEL_LAYER: names.FOUNDATION}


def of_vm(settings: VmSettings) -> dict[str, str]:
    """The labels by which reaper, ledger and `mayfly status` know a VM."""
    return {
        names.LABEL_LAYER: settings.layer,
        names.LABEL_SESSION: names.slug(settings.session),
        names.LABEL_PROFILE: names.slug(settings.profile.name),
        names.LABEL_PROVISIONING: names.slug(settings.provisioning),
    }
