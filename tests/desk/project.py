"""The local cloud's Google in the test's own process; commands reach it as they reach Google."""

from collections.abc import Iterator
from contextlib import contextmanager

from local import exports
from local.rest.app import create_app
from local.rest.serviceusage import Services
from local.rest.world import World
from local.servers import Door, Server


@contextmanager
def serving(world: World) -> Iterator[dict[str, str]]:
    """The environment that leads the commands to this world, as its user."""
    world.of(Services).enforce()
    door = Door("http")
    world.base_url = door.url
    server = Server(create_app(world), door)
    try:
        yield exports.endpoints(door.url) | {"GOOGLE_PROJECT": world.project}
    finally:
        server.stop()
        world.close()


def switch_on(world: World, *apis: str) -> None:
    world.of(Services).on.update(f"{api}.googleapis.com" for api in apis)
