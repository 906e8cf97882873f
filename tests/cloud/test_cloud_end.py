"""The end of a local cloud: every part is ended, whatever another one says."""

import pytest

from local.rest.machines import NoMachines
from local.rest.world import World


def test_world_closes_every_part_when_one_of_them_fails():
    """What stays behind a part that fails would be a process that nobody ends."""
    world, ended = World("proj", machines=NoMachines()), []

    def failing() -> None:
        raise OSError("it does not end")

    for closer in (lambda: ended.append("first"), failing, lambda: ended.append("last")):
        world.on_close(closer)

    with pytest.raises(OSError, match="it does not end"):
        world.close()

    assert ended == ["last", "first"]
    world.close()
