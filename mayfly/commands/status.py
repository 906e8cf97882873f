"""`mayfly status`: what there is, what it does, when it ends by itself, what it costs."""

import json
import time
from collections.abc import Iterator
from typing import Any

from mayfly.cloud import Cloud, CloudError, connect
from mayfly.project import find_project
from mayfly.sessions import rows

WATCH_EVERY_S = 5.0


def run(*, as_json: bool, watch: bool = False) -> None:
    """Print every VM of ours in the project, whoever started it; nothing is changed.

    watch: again and again until Ctrl-C; as JSON, one object a line.
    """
    project = find_project().google_project()
    cloud = connect(project)
    if watch:
        return watch_on(project, cloud, as_json=as_json)
    found = rows(cloud)
    if as_json:
        print(json.dumps({"project": project, "sessions": found}, indent=2))
        return None
    from mayfly.commands.status_view import show

    show(project, found)
    return None


def watch_on(project: str, cloud: Cloud, *, as_json: bool) -> None:
    """Show what there is now until Ctrl-C; a cloud that does not answer for a while is said."""
    try:
        if as_json:
            for found, trouble in looks(cloud):
                told = {"project": project, "sessions": found, "trouble": trouble or None}
                print(json.dumps(told), flush=True)
        else:
            from mayfly.commands.status_view import follow

            follow(project, looks(cloud))
    except KeyboardInterrupt:
        return


def looks(cloud: Cloud) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """(rows, "") each few seconds; (the last rows, why there are no newer ones) meanwhile."""
    last: list[dict[str, Any]] = []
    while True:
        trouble = ""
        try:
            last = rows(cloud)
        except CloudError as error:
            if error.status not in (0, 429) and error.status < 500:
                raise
            trouble = error.message
        yield last, trouble
        time.sleep(WATCH_EVERY_S)
