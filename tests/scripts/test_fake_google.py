"""The fake that stages and seeds talk to keeps its promises when it is asked by many at once."""

import http.client
import json

from tests.fake_google import TOKEN


def upload(google, name: str) -> str:
    """Announce an object in bucket w; its session's path."""
    status, headers, _ = ask(google, "POST", f"/upload/storage/v1/b/w/o?name={name}", b"{}")
    assert status == 200
    return headers["Location"].partition(google.host)[2]


def ask(google, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(google.host, timeout=30)
    connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), said


def test_upload_keeps_its_session_when_others_were_never_finished(google):
    """A killed seed leaves sessions open; the next one's files must not get mixed up in them."""
    upload(google, "of-one-that-died")
    first, second = upload(google, "first"), upload(google, "second")
    assert ask(google, "PUT", first, b"1")[0] == 200
    third = upload(google, "third")

    assert ask(google, "PUT", second, b"2")[0] == 200
    assert ask(google, "PUT", third, b"3")[0] == 200

    told = [google.read(f"gs://w/{name}") for name in ("first", "second", "third")]
    assert told == [b"1", b"2", b"3"]


def test_upload_is_refused_when_its_session_is_over(google):
    """An answer, as Google gives one: a broken connection would look like a busy network."""
    session = upload(google, "once")
    assert ask(google, "PUT", session, b"1")[0] == 200

    status, _, said = ask(google, "PUT", session, b"1")

    assert (status, json.loads(said)["error"]["errors"][0]["reason"]) == (404, "notFound")
