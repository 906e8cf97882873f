"""The provider's own configuration, and what it takes from the environment."""

from __future__ import annotations

import pytest

from local.provider import settings
from local.provider.google import Google
from local.provider.messages import RefusedError
from tests.provider.conftest import asking, configured
from tests.provider.playback import Playback

NETWORK = "gcp:compute/network:Network"


def test_configuration_keeps_the_environments_project_when_it_names_none(
    playback: Playback, provider: Google
) -> None:
    """The reaper destroys with what state holds: its own environment names no project."""
    checked = provider.configure_inputs({"version": "10.2.0"})

    assert checked.inputs["project"] == "proj"


def test_configuration_is_refused_when_a_key_is_unknown(provider: Google) -> None:
    """A misspelt key would be a setting that silently does nothing."""
    checked = provider.configure_inputs({"projct": "p"})

    assert checked.failures == [
        "could not validate provider configuration: Invalid or unknown key. "
        "Check `pulumi config get gcp:projct`."
    ]


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1/compute/beta", "http://127.0.0.1"])
def test_endpoint_is_refused_when_it_does_not_end_in_a_version(endpoint: str) -> None:
    """The provider would build addresses that nobody serves."""
    with pytest.raises(RefusedError, match='must be a URL that ends in a version and "/"'):
        settings.read({"computeCustomEndpoint": endpoint}, {})


def test_endpoints_of_library_calls_carry_the_librarys_own_version() -> None:
    """Those clients drop the last segment and add their own."""
    found = settings.read({}, {"GOOGLE_SERVICE_USAGE_CUSTOM_ENDPOINT": "http://h:1/x/v1beta1/"})

    assert found.endpoint("serviceusage") == "http://h:1/x/v1/"


def test_labels_hold_the_attribution_unless_it_is_off(playback: Playback) -> None:
    """The label is there by default; a cost report that filters by it must find it locally, too."""
    inputs = {"name": "a", "region": "r", "labels": {"own": "x"}}

    def ours(**config: object) -> object:
        provider = configured(playback, **config)
        request = asking("gcp:compute/address:Address", inputs=inputs, preview=True)
        return provider.create(request)[1]["pulumiLabels"].value

    assert ours() == {"goog-pulumi-provisioned": "true", "own": "x"}
    assert ours(addPulumiAttributionLabel="false") == {"own": "x"}
    assert ours(defaultLabels='{"team": "ml"}')["team"] == "ml"  # type: ignore[index]


def test_project_is_asked_for_when_nothing_names_it(playback: Playback) -> None:
    """One plain message at preview instead of an address with a hole in it."""
    import os

    configured(playback)
    del os.environ["GOOGLE_PROJECT"]
    provider = configured_again()

    with pytest.raises(RefusedError, match="project: required field is not set"):
        provider.create(asking(NETWORK, inputs={"name": "net"}))


def configured_again() -> Google:
    from tests.provider.conftest import LoggedLines, Waits

    provider = Google(LoggedLines(), sleep=Waits())
    provider.configure({})
    return provider
