"""IAM conditions: the part of a right that a role cannot say."""

from dataclasses import dataclass

from mayfly import names


@dataclass(frozen=True)
class Condition:
    """A CEL expression over the resource of a request, with the title IAM wants."""

    title: str
    expression: str


def only_objects(title: str, *prefixes: str) -> Condition:
    """What lies under one of these paths, `<bucket>/objects/<prefix>`."""
    return Condition(title, " || ".join(_starts(prefix) for prefix in prefixes))


def all_but_objects(title: str, *prefixes: str) -> Condition:
    """All but what lies under these paths; listing the bucket stays allowed."""
    return Condition(title, " && ".join(f"!{_starts(prefix)}" for prefix in prefixes))


def our_vms() -> Condition:
    """Instances whose name begins as ours do."""
    return Condition(
        "mayfly-vms",
        'resource.name.extract("/instances/{name}").startsWith("' + names.VM_PREFIX + '")',
    )


def ssh_port() -> Condition:
    """Tunnels to port 22 and no other."""
    return Condition("ssh-only", "destination.port == 22")


def foundation_objects(bucket: str, stack: str) -> tuple[str, ...]:
    """Where the foundation's state, history, backups and locks lie."""
    return tuple(
        f"{bucket}/objects/{path}"
        for path in (
            names.stack_state(stack),
            f".pulumi/history/{names.PROJECT}/{stack}/",
            f".pulumi/backups/{names.PROJECT}/{stack}/",
            names.stack_locks(stack),
        )
    )


def _starts(path: str) -> str:
    return f'resource.name.startsWith("projects/_/buckets/{path}")'
