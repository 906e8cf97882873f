"""What the server answers that is not the page itself: JSON, and errors in their three lines."""

from starlette.responses import JSONResponse

from mayfly.errors import MayflyError

STATUS = {2: 400, 3: 409}
"""HTTP's word for a command's exit code; 502 for the rest: it was tried and did not work."""


def failed(error: MayflyError) -> JSONResponse:
    """An error as the terminal would show it, in its three lines."""
    told = {"what": error.what, "meaning": error.meaning, "remedy": error.remedy}
    return JSONResponse(told, STATUS.get(error.exit_code, 502))


def refused(what: str) -> JSONResponse:
    """A request that the door turned away."""
    told = {
        "what": what,
        "meaning": "Nothing was shown or changed.",
        "remedy": "Open the URL that `mayfly dashboard` printed; it is good once, for one browser.",
    }
    return JSONResponse(told, 403)
