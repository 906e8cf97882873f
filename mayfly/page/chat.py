"""A chat request on its way to the endpoint: built here, with the key that no browser sees."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from mayfly.errors import FailedError, WrongInputError
from mayfly.vms import printable

ROLES = ("system", "user", "assistant")
CONNECT_S = 10.0
READ_S = 900.0
"""A long prompt is read for minutes before the first token comes."""


def messages(sent: Any) -> list[dict[str, str]]:
    """The conversation, role and text only. WrongInputError for anything else."""
    sound = isinstance(sent, list) and sent and all(_is_message(message) for message in sent)
    if not sound:
        raise WrongInputError(
            "A chat is a list of messages, each with a role and a text.", "Nothing was sent."
        )
    return [{"role": message["role"], "content": message["content"]} for message in sent]


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") in ROLES
        and isinstance(message.get("content"), str)
    )


class Answer:
    """One answer as it streams in. Closing it makes vLLM stop: the rest would be paid for."""

    def __init__(self, line: dict[str, Any], conversation: list[dict[str, str]]) -> None:
        # trust_env: a proxy has no business between here and 127.0.0.1.
        timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)
        self._client = httpx2.AsyncClient(trust_env=False, timeout=timeout)
        self._request = self._client.build_request(
            "POST",
            f"{line['base_url']}/chat/completions",
            headers={"Authorization": f"Bearer {line['api_key']}"},
            json={
                "model": line["model"],
                "messages": conversation,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
        )
        self._response: httpx2.Response | None = None

    async def start(self) -> None:
        """Send it. FailedError in the endpoint's own words when it is refused, or not answered."""
        try:
            self._response = await self._client.send(self._request, stream=True)
            if self._response.status_code == 200:
                return
            text = (await self._response.aread()).decode("utf-8", "replace")
            status = self._response.status_code
        except httpx2.HTTPError as error:
            await self.close()
            raise _broken(type(error).__name__) from error
        await self.close()
        raise FailedError(
            f"The endpoint refused ({status}): {_reason(text)}",
            "The session is unchanged.",
            "Try: a shorter conversation (Clear begins anew)" if status == 400 else "",
        )

    async def chunks(self) -> AsyncIterator[bytes]:
        """The endpoint's server-sent events as they are; one of ours where the line breaks."""
        try:
            if self._response is not None:
                async for chunk in self._response.aiter_raw():
                    yield chunk
        except httpx2.HTTPError as error:
            what = str(_broken(type(error).__name__))
            yield f"\n\ndata: {json.dumps({'error': {'message': what}})}\n\n".encode()
        finally:
            await self.close()

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
        await self._client.aclose()


def _broken(how: str) -> FailedError:
    return FailedError(
        f"The line to the endpoint broke ({how}).",
        "The session runs on until it is idle.",
        "Send it again: mayfly connects anew.",
    )


def _reason(text: str) -> str:
    """The message in vLLM's error, else the text's beginning; one harmless line."""
    try:
        raw = json.loads(text)
        said = raw["error"]["message"] if isinstance(raw["error"], dict) else raw["error"]
    except (ValueError, KeyError, TypeError):
        said = text
    return printable(str(said))
