"""Every test runs on loopback with a clean environment: no credential, no metadata, no proxy."""

import os
import signal
from pathlib import Path

import pytest

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
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest stories first: begun last, they would run on alone beside an idle worker."""
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests/integration"))


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
