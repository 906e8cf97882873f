"""End one VM."""

from mayfly.cloud import Cloud, CloudError
from reaper.vm import Vm

FORBIDDEN = 403


def delete(cloud: Cloud, vm: Vm) -> str | None:
    """Send the delete of a VM; returns the operation's name, None when the VM is gone.

    By number: a new VM under the old name is safe. The reaper's right to delete is bound to our
    names, and Google seems to hold that against the request's own words (docs/decisions/0003): a
    number that is refused is repeated by name, after a look that the name still means this VM.
    """
    try:
        return cloud.compute.delete_instance(vm.zone, vm.id)
    except CloudError as error:
        if error.status != FORBIDDEN:
            raise
    found = cloud.compute.instance(vm.zone, vm.name)
    if found is None or str(found["id"]) != vm.id:
        return None
    return cloud.compute.delete_instance(vm.zone, vm.name)
