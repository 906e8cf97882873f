"""Objects through the door: names, preconditions, ranges, resumable uploads, pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from local.rest.products import SERVICES
from local.rest.storage_paths import RESERVED, parse
from local.rest.world import World
from tests.cloud.conftest import Api, message

AUTH = {"Authorization": "Bearer fake"}
UPLOAD = "/upload/storage/v1/b/proj-one/o"
OBJECTS = "/storage/v1/b/proj-one/o"


@pytest.fixture
def client(api: Api, stored: str) -> Iterator[FlaskClient]:
    """The app, with a bucket in it."""
    api.post("/storage/v1/b?project=proj", {"name": "proj-one", "location": "us-central1"})
    api.client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
    return api.client


def put(client: FlaskClient, name: str, data: bytes = b"data", **query: Any) -> TestResponse:
    words = "".join(f"&{k}={v}" for k, v in query.items())
    return client.post(f"{UPLOAD}?uploadType=media&name={quote(name, safe='')}{words}", data=data)


def text(response: TestResponse) -> str:
    return message(response.get_json())


@pytest.mark.parametrize(
    "name", ["plain", "a/b/c.json", "100% & more", "ümlaut/✓", "a+b c?d#e", "x/o/y"]
)
def test_object_keeps_its_name_when_it_needs_escaping(client: FlaskClient, name: str) -> None:
    """A weight file under another name is a weight file lost."""
    stored = put(client, name).get_json()
    escaped = quote(name, safe="")

    assert stored["name"] == name
    assert client.get(f"{OBJECTS}/{escaped}").get_json()["name"] == name
    assert client.get(f"{OBJECTS}/{escaped}?alt=media").data == b"data"
    assert client.get(f"/proj-one/{escaped}").data == b"data"
    assert client.get(urlsplit(stored["mediaLink"])._replace(scheme="", netloc="").geturl()).data
    assert [o["name"] for o in client.get(OBJECTS).get_json()["items"]] == [name]


@pytest.mark.parametrize("name", [".", "..", "a\nb", "x" * 1025])
def test_object_is_refused_when_its_name_is_none(client: FlaskClient, name: str) -> None:
    """Google takes none of these."""
    refused = put(client, name)

    assert refused.status_code == 400
    assert "Invalid object name" in text(refused)


def test_object_call_is_a_404_when_bucket_or_object_is_missing(client: FlaskClient) -> None:
    """Each client reads it in its own way: JSON, text, or XML."""
    nowhere = client.post("/upload/storage/v1/b/other/o?uploadType=media&name=a", data=b"x")
    metadata = client.get(f"{OBJECTS}/a%2Fb")
    media = client.get(f"{OBJECTS}/a%2Fb?alt=media")
    xml = client.get("/proj-one/a/b")
    no_bucket = client.get("/proj-other/a")

    assert {r.status_code for r in (nowhere, metadata, media, xml, no_bucket)} == {404}
    assert text(nowhere) == "The specified bucket does not exist."
    assert text(metadata) == media.get_data(as_text=True) == "No such object: proj-one/a/b"
    assert "<Code>NoSuchKey</Code>" in xml.get_data(as_text=True)
    assert "<Code>NoSuchBucket</Code>" in no_bucket.get_data(as_text=True)


def test_object_calls_need_a_real_token_when_they_carry_one(client: FlaskClient) -> None:
    """An emulator's clients send none; a wrong one is still a mistake."""
    wrong = client.get(OBJECTS, headers={"Authorization": "Bearer made-up"})

    assert wrong.status_code == 401
    assert "invalid authentication credentials" in text(wrong)


def test_object_write_is_refused_when_the_generation_is_another(client: FlaskClient) -> None:
    """Leases and the reaper's lock hold only because of this."""
    first = put(client, "lease", ifGenerationMatch=0)
    again = put(client, "lease", ifGenerationMatch=0)
    generation = first.get_json()["generation"]
    replaced = put(client, "lease", b"new", ifGenerationMatch=generation)
    late = client.delete(f"{OBJECTS}/lease?ifGenerationMatch={generation}")
    now = replaced.get_json()["generation"]
    gone = client.delete(f"{OBJECTS}/lease?ifGenerationMatch={now}")

    assert [r.status_code for r in (first, again, replaced, late, gone)] == [
        200,
        412,
        200,
        412,
        204,
    ]
    assert text(again) == "At least one of the pre-conditions you specified did not hold."


def test_object_read_answers_not_modified_when_the_reader_has_it(client: FlaskClient) -> None:
    """Google answers 304 to a reader and 412 to a writer."""
    generation = put(client, "a").get_json()["generation"]

    assert client.get(f"{OBJECTS}/a?ifGenerationNotMatch={generation}").status_code == 304
    assert put(client, "a", ifGenerationNotMatch=generation).status_code == 412
    assert client.get(f"{OBJECTS}/a?generation=1").status_code == 404


def multipart(metadata: dict[str, Any], data: bytes, quoting: str = "") -> dict[str, Any]:
    edge = "===1234567890=="
    body = (
        f"--{edge}\r\nContent-Type: application/json\r\n\r\n{json.dumps(metadata)}\r\n"
        f"--{edge}\r\nContent-Type: text/plain\r\n\r\n"
    ).encode()
    kind = f"multipart/related; boundary={quoting}{edge}{quoting}"
    return {"data": body + data + f"\r\n--{edge}--".encode(), "content_type": kind}


@pytest.mark.parametrize("quoting", ["'", '"'])
def test_multipart_upload_takes_the_name_from_its_metadata(
    client: FlaskClient, quoting: str
) -> None:
    """gsutil quotes the boundary wrongly, and Python's client names the object only inside."""
    sent = multipart({"name": "in/side", "metadata": {"k": "v"}}, b"body", quoting)

    stored = client.post(f"{UPLOAD}?uploadType=multipart&ifGenerationMatch=0", **sent)
    again = client.post(f"{UPLOAD}?uploadType=multipart&ifGenerationMatch=0", **sent)

    assert stored.get_json()["metadata"] == {"k": "v"}
    assert client.get(f"{OBJECTS}/in%2Fside?alt=media").data == b"body"
    assert again.status_code == 412


def test_upload_is_refused_when_its_metadata_has_an_unknown_field(client: FlaskClient) -> None:
    """As strict as any other body."""
    refused = client.post(f"{UPLOAD}?uploadType=multipart", **multipart({"nmae": "a"}, b""))

    assert refused.status_code == 400
    assert 'Unknown name "nmae"' in text(refused)


def begin(client: FlaskClient, query: str = "") -> str:
    """Start a resumable upload of `big`; its address."""
    started = client.post(f"{UPLOAD}?uploadType=resumable{query}", json={"name": "big"})
    assert started.status_code == 200, started.get_data()
    assert started.headers["Location"].startswith(
        "http://localhost/upload/storage/v1/b/proj-one/o?"
    )
    return started.headers["Location"].removeprefix("http://localhost")


def send(client: FlaskClient, where: str, data: bytes, content_range: str) -> TestResponse:
    return client.put(where, data=data, headers={"Content-Range": content_range})


def test_resumable_upload_says_how_far_it_is_and_ends_whole(client: FlaskClient) -> None:
    """A client that lost an answer asks, or sends a chunk twice: neither may spoil the object."""
    where = begin(client)

    nothing = send(client, where, b"", "bytes */12")
    first = send(client, where, b"aaaa", "bytes 0-3/12")
    asked = send(client, where, b"", "bytes */12")
    twice = send(client, where, b"aaaa", "bytes 0-3/12")
    second = send(client, where, b"bbbb", "bytes 4-7/*")
    last = send(client, where, b"cccc", "bytes 8-11/12")

    assert (nothing.status_code, "Range" in nothing.headers) == (308, False)
    assert [r.headers["Range"] for r in (first, asked, twice)] == ["bytes=0-3"] * 3
    assert second.headers["Range"] == "bytes=0-7"
    assert last.get_json()["size"] == "12"
    assert client.get(f"{OBJECTS}/big?alt=media").data == b"aaaabbbbcccc"
    assert send(client, where, b"", "bytes */12").status_code == 404


def test_resumable_upload_is_refused_at_its_end_when_another_was_faster(
    client: FlaskClient,
) -> None:
    """A precondition counts when the object is made, not only when the upload begins."""
    where = begin(client, "&ifGenerationMatch=0")
    put(client, "big", b"faster")

    ended = send(client, where, b"slow", "bytes 0-3/4")

    assert ended.status_code == 412
    assert client.get(f"{OBJECTS}/big?alt=media").data == b"faster"


def test_object_range_is_answered_in_part(client: FlaskClient) -> None:
    """gsutil and Pulumi's client read in ranges."""
    put(client, "a", b"0123456789")

    part = client.get(f"{OBJECTS}/a?alt=media", headers={"Range": "bytes=2-5"})
    beyond = client.get(f"{OBJECTS}/a?alt=media", headers={"Range": "bytes=20-"})

    assert (part.status_code, part.data) == (206, b"2345")
    assert part.headers["Content-Range"] == "bytes 2-5/10"
    assert beyond.status_code == 416


def test_object_list_comes_in_pages_with_prefixes(client: FlaskClient) -> None:
    """A reader that does not follow nextPageToken must notice here."""
    for name in ("a/1", "a/2", "b/1", "c"):
        put(client, name)

    first = client.get(f"{OBJECTS}?maxResults=2").get_json()
    rest = client.get(f"{OBJECTS}?maxResults=2&pageToken={first['nextPageToken']}").get_json()
    folders = client.get(f"{OBJECTS}?delimiter=%2F").get_json()

    assert [o["name"] for o in first["items"] + rest["items"]] == ["a/1", "a/2", "b/1", "c"]
    assert "nextPageToken" not in rest
    assert (folders["prefixes"], [o["name"] for o in folders["items"]]) == (["a/", "b/"], ["c"])


def test_objects_are_copied_and_composed_within_preconditions(client: FlaskClient) -> None:
    """Pulumi keeps its backup by a copy; gsutil joins the parts of a large upload."""
    put(client, "x/1", b"one,")
    put(client, "x/2", b"two")
    copied = client.post(f"{OBJECTS}/x%2F1/rewriteTo/b/proj-one/o/y%2F1", json={})
    late = client.post(f"{OBJECTS}/x%2F1/rewriteTo/b/proj-one/o/y%2F1?ifGenerationMatch=0", json={})
    parts = {"sourceObjects": [{"name": "x/1"}, {"name": "x/2"}]}
    joined = client.post(f"{OBJECTS}/x%2Fall/compose", json=parts)

    assert copied.get_json()["resource"]["name"] == "y/1"
    assert (late.status_code, joined.status_code) == (412, 200)
    assert client.get(f"{OBJECTS}/x%2Fall?alt=media").data == b"one,two"


def test_large_object_streams_through_when_it_is_sent_in_blocks(client: FlaskClient) -> None:
    """64 MiB up and down, whole."""
    data = hashlib.sha256(b"seed").digest() * (2 * 1024 * 1024)
    put(client, "large", data)

    came = hashlib.sha256()
    answer = client.get(f"{OBJECTS}/large?alt=media", buffered=False)
    for block in answer.response:
        came.update(block)
    answer.close()

    assert came.digest() == hashlib.sha256(data).digest()


def test_object_call_fails_as_ordered_when_a_fault_is_set(client: FlaskClient, api: Api) -> None:
    """Pulls and state writes must be tried against a storage that fails."""
    put(client, "a")
    api.fault("http-5xx", method="storage.objects.get", times=1)
    api.fault("http-5xx-after", method="storage.objects.delete", times=1)

    first = client.get(f"{OBJECTS}/a")
    second = client.get(f"{OBJECTS}/a")
    deleted = client.delete(f"{OBJECTS}/a")

    assert (first.status_code, second.status_code, deleted.status_code) == (503, 200, 503)
    assert client.get(f"{OBJECTS}/a").status_code == 404
    assert [c["id"] for c in api.get("/_local/calls")[1]["calls"]][-4:] == [
        *["storage.objects.get"] * 2,
        "storage.objects.delete",
        "storage.objects.get",
    ]


def test_object_arrives_with_one_bit_turned_when_a_fault_is_set(
    client: FlaskClient, api: Api
) -> None:
    """A puller that does not look at checksums must be seen to bring the wrong thing."""
    put(client, "a", b"content")
    api.fault("corrupted-content", where={"object": "a", "alt": "media"})

    described = client.get(f"{OBJECTS}/a").get_json()
    first = client.get(f"{OBJECTS}/a?alt=media").data
    second = client.get(f"{OBJECTS}/a?alt=media").data

    assert described["name"] == "a"
    assert (first, second) == (b"bontent", b"content")


def test_storage_paths_leave_every_other_product_alone(world: World) -> None:
    """A bucket of the XML API is any first segment that nobody else has."""
    first = {prefix.split("/")[1] for service in SERVICES for prefix in service.mounts}

    assert first <= RESERVED
    assert parse("/compute/beta/projects/p") is None
    assert parse("/proj-one/a%2Fb") == parse("/proj-one/a/b")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("permission-http-403", "AccessDenied"),
        ("rate-limit-http-429", "SlowDown"),
        ("http-5xx", "ServiceUnavailable"),
    ],
)
def test_xml_call_fails_in_the_xml_apis_words(
    client: FlaskClient, api: Api, fault: str, code: str
) -> None:
    """gsutil decides by the code whether it tries again."""
    put(client, "a&b")
    api.fault(fault, method="storage.objects.get")

    refused = client.get("/proj-one/a%26b")

    assert f"<Code>{code}</Code>" in refused.get_data(as_text=True)
