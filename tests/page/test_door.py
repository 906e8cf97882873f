"""Who may see the page: its own browser, and no other site, name or program."""

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from mayfly.page.app import STATIC
from mayfly.page.door import Keys
from tests.machine import vllm_server
from tests.page.asking import ask, post, swap
from tests.page.crew import Dashboard, Stage
from tests.page.scene import LEASE

ACTS = ("/keep", "/release", "/down", "/connect", "/disconnect", "/chat")
DEV = {"session": "dev", "vm_id": "1000", "span": "1h"}


@pytest.fixture
def dashboard(stage: Stage) -> Dashboard:
    return stage.dashboard


@pytest.fixture
def cookie(insider: BrowserContext) -> str:
    """The cookie of the browser that was let in, as a header."""
    (found,) = insider.cookies()
    return f"{found['name']}={found['value']}"


def untouched(stage: Stage) -> bool:
    """Whether nothing was kept, and nothing destroyed."""
    return LEASE not in stage.google.objects and not stage.pulumi_calls()


def test_cookie_is_out_of_reach_of_scripts_and_of_other_sites(
    insider: BrowserContext, page: Page, dashboard: Dashboard
):
    """HttpOnly and SameSite=Strict; the token is out of the address bar by then."""
    (cookie,) = insider.cookies()

    assert (cookie["httpOnly"], cookie["sameSite"], cookie["domain"]) == (
        True, "Strict", "127.0.0.1",
    )  # fmt: skip
    assert page.url == f"{dashboard.address}/"
    assert page.evaluate("document.cookie") == ""


def test_token_is_refused_the_second_time(insider, visitor, dashboard: Dashboard):
    """Who finds the URL in a terminal's history finds nothing."""
    late = visitor.new_page()
    late.goto(dashboard.url)

    expect(late.locator("#door")).to_contain_text("This URL has been used", timeout=60_000)
    assert visitor.cookies() == []


def test_door_refuses_everything_without_the_cookie(dashboard: Dashboard, stage: Stage):
    """Another user's program on the same machine can reach the port."""
    for path in ("/sessions", "/ledger", "/static/page.html", "/static/page.js", "/nothing"):
        status, text = ask(dashboard, "GET", path)
        assert (status, "This browser has not been let in." in text) == (403, True), path
    for path in ACTS:
        status, text = post(dashboard, path, DEV)
        assert (status, "This browser has not been let in." in text) == (403, True), path
    status, text = ask(dashboard, "GET", "/")
    assert (status, "p-for-tests" in text) == (403, False)
    assert untouched(stage)


def test_door_refuses_a_wrong_token_and_leaves_the_right_one(own_stage: Stage):
    """A guess must not lock the user out."""
    dashboard = own_stage.dashboard
    for token in ("", "x", dashboard.token[:-1]):
        status, text = post(dashboard, "/enter", {"token": token})
        assert (status, "set-cookie" in text) == (403, False)
    cookie = swap(dashboard)

    assert ask(dashboard, "GET", "/sessions", Cookie=cookie)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:80"])
def test_door_refuses_another_name_even_with_the_cookie(dashboard: Dashboard, cookie, host):
    """A name that was made to lead to 127.0.0.1 is how a web site would come in."""
    for method, path in (("GET", "/sessions"), ("GET", "/"), ("POST", "/keep")):
        status, text = ask(dashboard, method, path, Host=host, Cookie=cookie)
        assert (status, "its own address only" in text) == (403, True)


def test_door_refuses_another_origin_even_with_the_cookie(dashboard, cookie, stage: Stage):
    """Another site's form or script, in the same browser; none at all is no page of ours."""
    port = dashboard.address.rpartition(":")[2]
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        f"https://127.0.0.1:{port}",
    ):
        for path in ACTS:
            status, text = post(dashboard, path, DEV, Cookie=cookie, Origin=origin)
            assert (status, "another site" in text) == (403, True)
        assert ask(dashboard, "GET", "/sessions", Cookie=cookie, Origin=origin)[0] == 403
    for path in ACTS:
        assert ask(dashboard, "POST", path, body=DEV, Cookie=cookie)[0] == 403
        assert ask(dashboard, "GET", path, Cookie=cookie)[0] == 405
    assert untouched(stage)


def test_door_refuses_what_a_form_of_another_site_can_send(dashboard: Dashboard, cookie):
    """Simple requests need no leave of ours; JSON does."""
    status, text = post(dashboard, "/keep", DEV, Cookie=cookie, Content_Type="text/plain")
    assert (status, "is JSON" in text) == (400, True)


def test_act_refuses_a_machine_that_is_not_the_one_shown(dashboard, cookie, stage: Stage):
    """A tab from yesterday must not end today's session of the same name."""
    for path in ACTS:
        sent = {**DEV, "vm_id": "999", "messages": [{"role": "user", "content": "hi"}]}
        status, text = post(dashboard, path, sent, Cookie=cookie)
        assert (status, "is gone" in text) == (409, True), path
    assert untouched(stage)


def test_every_answer_carries_the_policy(dashboard: Dashboard, cookie):
    """No script, style or frame but our own, whatever a model or a VM writes."""
    for path in ("/", "/sessions", "/static/page.js", "/nothing"):
        _, text = ask(dashboard, "GET", path, Cookie=cookie)
        assert "content-security-policy: default-src 'none'; script-src 'self';" in text
        assert "unsafe" not in text.partition("\n\n")[0]
        assert "cache-control: no-store" in text


def test_key_is_in_nothing_that_the_browser_gets(page: Page, dashboard: Dashboard, cookie):
    """Whoever looks over a shoulder, or into the browser's cache, finds no key."""
    chat = {**DEV, "messages": [{"role": "user", "content": "Hello"}]}
    reads = ["/", "/sessions", "/ledger", *(f"/static/{file.name}" for file in STATIC.iterdir())]
    answers = [post(dashboard, path, DEV, Cookie=cookie) for path in ("/disconnect", "/connect")]
    answers += [post(dashboard, "/chat", chat, Cookie=cookie)]
    answers += [ask(dashboard, "GET", path, Cookie=cookie) for path in reads]
    answers += [post(dashboard, "/chat", {**chat, "vm_id": "9"}, Cookie=cookie)]
    page.get_by_label("Message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".theirs p.quiet")).to_contain_text("a second", timeout=60_000)

    everything = "".join([*(text for _, text in answers), page.content()])
    assert [status for status, _ in answers] == [200] * (len(answers) - 1) + [409]
    assert "chat.completion.chunk" in everything
    assert vllm_server.KEY not in everything


def test_page_asks_nobody_but_its_own_server(page: Page, dashboard: Dashboard):
    """No font, no script, no count of users: a private endpoint's page is private too."""
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url.partition("/")[2].split("/")[1]))
    page.reload()
    page.locator("article.card").first.wait_for()

    assert asked == {dashboard.address.removeprefix("http://")}


def test_token_is_good_once():
    """The rule itself."""
    keys = Keys(8600)
    token = keys.token or ""

    assert keys.swap("") is None
    assert keys.swap(token)
    assert keys.swap(token) is None
