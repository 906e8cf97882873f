"""Every test runs on loopback with a clean environment: no credential, no metadata, no proxy."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

LEAKY = (
    "GOOGLE_",
    "GCLOUD_",
    "CLOUDSDK_",
    "PULUMI_",
    "GCE_",
    "STORAGE_",
    "HF_",
    "BOTO_",
    "MAYFLY_",
)
SAFE = {
    "GCE_METADATA_HOST": "127.0.0.1:9",
    "GCE_METADATA_IP": "127.0.0.1:9",  # google.auth probes this one first
    "GOOGLE_OAUTH_ACCESS_TOKEN": "fake",
    "PULUMI_SKIP_UPDATE_CHECK": "true",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


def clean_environment() -> None:
    """Drop what the user's shell may hold, then set what keeps every client on loopback."""
    for name in [n for n in os.environ if n.startswith(LEAKY)]:
        del os.environ[name]
    os.environ.update(SAFE)


clean_environment()
# Properties take the time that a loaded machine gives them: slow is not wrong. The same cases in
# every run, so that what reddens one is its change; others: --hypothesis-profile=search.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("mayfly", settings.get_profile("search"), derandomize=True)
settings.load_profile("mayfly")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest stories first: begun last, they would run on alone beside an idle worker."""
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests/integration"))


def pytest_collection_finish() -> None:
    find_garbage()


def find_garbage() -> None:
    """What is still there afterwards stays: the next look does not come by it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _leaks() -> Iterator[None]:
    """What a module leaves behind reddens that module, not a later one's test.

    A file, socket or process that is left open would be found whenever Python next looks for
    garbage; an endpoint in the environment would lead somebody else's command there.
    """
    before = _variables()
    yield
    find_garbage()
    after = _variables()
    changed = sorted(n for n in before | after if before.get(n) != after.get(n))
    for name in changed:
        os.environ.pop(name, None)
    os.environ.update({name: before[name] for name in changed if name in before})
    assert not changed, f"the module's fixtures left the environment changed: {changed}"


def _variables() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}


@pytest.fixture(autouse=True)
def _environment():
    """Put the environment back after each test, so that none can change the next one's."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def project_root() -> Path:
    return ROOT
