"""`mayfly dashboard`: a page on 127.0.0.1, until Ctrl-C."""

import signal
import socket

import uvicorn

from mayfly.cloud import connect
from mayfly.page import app
from mayfly.page.desk import Desk
from mayfly.page.door import Keys
from mayfly.page.sight import Sight
from mayfly.project import find_project
from mayfly.talk import tell
from mayfly.tunnel import free_port, wished_port

USUAL_PORT = 8600
GRACE_S = 2


def run(*, port: str) -> None:
    """Serve the page until Ctrl-C or SIGTERM. Raises, before anything is served, what keeps it
    from reading the project."""
    wanted = wished_port(port) or free_port(USUAL_PORT)
    project = find_project()
    sight = Sight(project, connect(project.google_project()))
    sight.sessions.get()
    desk = Desk(project, sight)
    keys = Keys(wanted)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with socket.create_server(("127.0.0.1", wanted)) as listener:
        config = uvicorn.Config(
            app.make(desk, keys, wanted),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        print(f"http://127.0.0.1:{wanted}/#token={keys.token}", flush=True)
        tell("Open it in a browser on this machine: it is good once. Ctrl-C ends the page.")
        try:
            uvicorn.Server(config).run([listener])
        except KeyboardInterrupt:
            pass
        finally:
            desk.close()
    leave(desk)


def leave(desk: Desk) -> None:
    """Wait for what was begun: nobody else would say how it ended."""
    try:
        for down in desk.downs():
            tell("A session is being destroyed; waiting for its end (Ctrl-C leaves it at work).")
            down.wait()
            tell("\n".join(down.facts()["lines"][-1:]))
    except KeyboardInterrupt:
        tell("It goes on. Whether it is gone: mayfly status")
