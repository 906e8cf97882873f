"""The lease that holds an idle session, in the state bucket, by the user's own rights."""

import getpass
import json

from mayfly import idle, names, vms
from mayfly.cloud import Cloud, CloudError
from mayfly.errors import FailedError, RefusedError

TRIES = 5


def keep(cloud: Cloud, vm: vms.Vm, until: int) -> idle.Lease:
    """The lease that holds from now on: this one, or a longer one that is there already.

    until: Unix seconds. FailedError where the user may not write it, and where others write it
    again and again.
    """
    name, body = names.lease(vm.session), _body(vm, until)
    for _ in range(TRIES):
        blob = vms.lease_object(cloud, bucket(vm), name)
        there = idle.parse_lease(blob.data) if blob else None
        if there is not None and there.holds(vm.id) and there.until >= until:
            return there  # nobody's lease is cut short by another's
        generation = blob.generation if blob else 0
        try:
            written = cloud.storage.put(bucket(vm), name, body, if_generation_match=generation)
        except CloudError as error:
            raise _refused(error, vm) from error
        if written is not None:
            return idle.Lease(until, user(), vm.id)
    raise FailedError(
        f"The lease of {vm.session} changes faster than it can be written.",
        "It is not kept by this call; the session runs on.",
        f"Try: mayfly idle {vm.session}",
    )


def release(cloud: Cloud, vm: vms.Vm) -> None:
    """Remove the lease; that there is none is fine. FailedError where the user may not.

    Only what was read is taken away: RefusedError where somebody kept it at this very moment.
    """
    name = names.lease(vm.session)
    try:
        blob = vms.lease_object(cloud, bucket(vm), name)
        # Written first: who may not list is refused the delete of a lease that is not there.
        held = blob.generation if blob else 0
        written = cloud.storage.put(bucket(vm), name, _body(vm, 0), if_generation_match=held)
        gone = written is not None and cloud.storage.delete(
            bucket(vm), name, if_generation_match=written
        )
    except CloudError as error:
        raise _refused(error, vm) from error
    if not gone:
        raise RefusedError(
            f"Somebody has kept {vm.session} anew in this moment.",
            "That lease was left alone; the session is kept.",
            f"Try: mayfly idle {vm.session}, which says by whom; then the same command again",
        )


def bucket(vm: vms.Vm) -> str:
    """The state bucket that the VM and the reaper read. FailedError when it is not named."""
    name = vm.settings.get("state_bucket")
    if not isinstance(name, str) or not name:
        raise FailedError(
            f"The settings of {vm.name} name no state bucket, where leases lie.",
            "Nothing was changed; the session ends when it is idle.",
            f"Try: mayfly idle {vm.session}",
        )
    return name


def user() -> str:
    """Who asks, as this machine calls them."""
    try:
        return vms.printable(getpass.getuser(), 80)
    except (OSError, KeyError):  # a container's user without a name
        return "somebody"


def _body(vm: vms.Vm, until: int) -> bytes:
    return json.dumps({"until": idle.rfc3339(until), "by": user(), "vm_id": vm.id}).encode()


def _refused(error: CloudError, vm: vms.Vm) -> CloudError | FailedError:
    """A refusal by its cause: the right to write is the user's own."""
    if error.status != vms.FORBIDDEN or error.denied:
        return error
    return FailedError(
        f"You may not write gs://{bucket(vm)}/{names.lease(vm.session)}: {error.message}",
        "Nothing was changed; the session ends when it is idle.",
        "Try: pulumi up --stack foundation   (by who owns the project, once mayfly:members in "
        "Pulumi.foundation.yaml names you)",
    )
