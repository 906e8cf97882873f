"""Networks, subnetworks, firewalls, routers and addresses."""

import pytest

from local.rest.compute import rulebook
from tests.cloud.conftest import ZONE, message

GLOBAL = "/compute/beta/projects/proj/global"
REGION = "/compute/beta/projects/proj/regions/us-central1"
RULE = {
    "name": "iap",
    "network": "global/networks/mayfly",
    "direction": "INGRESS",
    "sourceRanges": ["35.235.240.0/20"],
    "targetTags": ["mayfly-node"],
    "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
}
SUBNET = {
    "name": "mayfly-us-central1",
    "network": "projects/proj/global/networks/mayfly",
    "ipCidrRange": "10.10.0.0/24",
    "privateIpGoogleAccess": True,
}


@pytest.fixture
def net(api):
    """A custom mode network with one subnetwork."""
    assert (
        api.post(f"{GLOBAL}/networks", {"name": "mayfly", "autoCreateSubnetworks": False})[0] == 200
    )
    status, answer = api.post(f"{REGION}/subnetworks", SUBNET)
    assert status == 200, answer
    return api


def test_subnetwork_is_answered_with_what_the_server_fills_in(net):
    """The provider reads these back and compares."""
    _, subnet = net.get(f"{REGION}/subnetworks/mayfly-us-central1")

    assert subnet["gatewayAddress"] == "10.10.0.1"
    assert (subnet["purpose"], subnet["stackType"]) == ("PRIVATE", "IPV4_ONLY")
    assert subnet["network"].endswith("/v1/projects/proj/global/networks/mayfly")
    assert [subnet["selfLink"]] == net.get(f"{GLOBAL}/networks/mayfly")[1]["subnetworks"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"ipCidrRange": "10.10.0.128/25"},
            "conflicts with existing subnetwork 'mayfly-us-central1'",
        ),
        ({"ipCidrRange": "10.300.0.0/24"}, "Must be a valid IP CIDR range"),
        ({"ipCidrRange": "10.20.0.0/30"}, "Ip Cidr Range is too small"),
        ({"network": "global/networks/none"}, "The referenced network resource cannot be found."),
        ({"network": "global/networks/default"}, "auto subnet mode network 'default'"),
        ({"name": None}, "Required field 'resource.name' not specified"),
        ({"name": "Bad"}, "Must be a match of regex"),
        ({"stackType": "IPV5"}, "Invalid value at 'resource.stackType'"),
    ],
)
def test_subnetwork_is_refused_when_it_breaks_a_rule(net, change, text):
    """Each with the words that Google has for it."""
    status, answer = net.post(f"{REGION}/subnetworks", {**SUBNET, "name": "two", **change})

    assert status == 400
    assert text in message(answer)


def test_subnetwork_changes_only_for_who_has_seen_it(net):
    """Private Google Access off would cut a node from its weights."""
    path = f"{REGION}/subnetworks/mayfly-us-central1"
    _, subnet = net.get(path)
    change = {"privateIpGoogleAccess": False, "fingerprint": subnet["fingerprint"]}

    assert net("PATCH", path, {**change, "fingerprint": "AAAAAAAAAAA="})[0] == 412
    assert net("PATCH", path, change)[0] == 200
    assert net.get(path)[1]["privateIpGoogleAccess"] is False
    net.post(f"{path}/setPrivateIpGoogleAccess", {"privateIpGoogleAccess": True})
    assert net.get(path)[1]["privateIpGoogleAccess"] is True


def test_network_goes_only_when_nothing_uses_it(net):
    """Destroy in the wrong order must fail as it fails at Google."""
    net.post(f"{GLOBAL}/firewalls", RULE)
    vm = {
        "networkInterfaces": [{"subnetwork": "regions/us-central1/subnetworks/mayfly-us-central1"}]
    }
    assert net.insert(**vm)[0] == 200

    blocked = [
        net("DELETE", f"{GLOBAL}/networks/mayfly"),
        net("DELETE", f"{REGION}/subnetworks/mayfly-us-central1"),
    ]
    for path in (
        f"{ZONE}/instances/mayfly-one",
        f"{GLOBAL}/firewalls/iap",
        f"{REGION}/subnetworks/mayfly-us-central1",
        f"{GLOBAL}/networks/mayfly",
    ):
        assert net("DELETE", path)[0] == 200, path

    assert [status for status, _ in blocked] == [400, 400]
    assert blocked[0][1]["error"]["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    assert net.get(f"{GLOBAL}/networks/mayfly")[0] == 404


def test_auto_mode_network_brings_and_takes_its_subnetworks(api):
    """The default network is one."""
    api.post(f"{GLOBAL}/networks", {"name": "auto"})
    made = api.get(f"{REGION}/subnetworks/auto")[0]
    api("DELETE", f"{GLOBAL}/networks/auto")

    assert (made, api.get(f"{REGION}/subnetworks/auto")[0]) == (200, 404)


def test_custom_network_wants_a_subnetwork_named(net):
    """Google does not guess."""
    nic = {"network": "global/networks/mayfly"}

    status, answer = net.insert(networkInterfaces=[nic])

    assert status == 400
    assert "A subnetwork must be specified" in message(answer)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"network": "global/networks/none"}, "The referenced network resource cannot be found."),
        ({"allowed": []}, "Exactly one of 'allowed' and 'denied'"),
        ({"denied": [{"IPProtocol": "all"}]}, "Exactly one of 'allowed' and 'denied'"),
        ({"allowed": [{"IPProtocol": "carrier-pigeon"}]}, "Must be a valid IP protocol"),
        ({"allowed": [{"IPProtocol": "tcp", "ports": ["http"]}]}, "Ports must be an integer"),
        ({"allowed": [{"IPProtocol": "tcp", "ports": ["9-8"]}]}, "Ports must be an integer"),
        ({"sourceRanges": ["35.235.240.1/20"]}, "Must be a valid CIDR address range."),
        ({"priority": 70000}, "Must be between 0 and 65535"),
        ({"direction": "EGRESS"}, "Egress rules cannot have source"),
        ({"direction": "SIDEWAYS"}, "Invalid value at 'resource.direction'"),
        ({"targetTags": ["Bad_Tag"]}, "Must be a match of regex"),
    ],
)
def test_firewall_is_refused_when_it_breaks_a_rule(net, change, text):
    """An open port by mistake is the one thing this room must not let pass in silence."""
    status, answer = net.post(f"{GLOBAL}/firewalls", {**RULE, **change})

    assert status == 400
    assert text in message(answer)


def test_firewall_is_open_to_the_world_when_no_source_is_given(net):
    """So is Google's: who forgets the source must see it in the answer."""
    rule = {k: v for k, v in RULE.items() if k != "sourceRanges"}
    net.post(f"{GLOBAL}/firewalls", rule)

    _, answer = net.get(f"{GLOBAL}/firewalls/iap")

    assert answer["sourceRanges"] == ["0.0.0.0/0"]


def test_firewall_patch_changes_what_it_names(net):
    """The provider sends empty lists for what it does not set."""
    net.post(f"{GLOBAL}/firewalls", RULE)
    path = f"{GLOBAL}/firewalls/iap"
    change = {"allowed": [{"IPProtocol": "tcp", "ports": ["22", "8000"]}], "denied": []}

    patched = net("PATCH", path, {**change, "description": "", "sourceTags": []})
    turned = net("PATCH", path, {"direction": "EGRESS", "sourceRanges": []})

    assert patched[0] == 200, patched
    _, rule = net.get(path)
    assert rule["allowed"][0]["ports"] == ["22", "8000"]
    assert rule["targetTags"] == ["mayfly-node"]
    assert turned[0] == 400


def test_router_keeps_its_nats(net):
    """A RouterNat is a patch of its router."""
    net.post(f"{REGION}/routers", {"name": "r", "network": "global/networks/mayfly"})
    nat = {
        "name": "nat",
        "natIpAllocateOption": "AUTO_ONLY",
        "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
    }

    patched = net("PATCH", f"{REGION}/routers/r", {"nats": [nat]})
    nameless = net("PATCH", f"{REGION}/routers/r", {"nats": [{"name": "x"}]})
    twice = net("PATCH", f"{REGION}/routers/r", {"nats": [nat, nat]})

    assert patched[0] == 200, patched
    assert net.get(f"{REGION}/routers/r")[1]["nats"][0]["name"] == "nat"
    assert "sourceSubnetworkIpRangesToNat' not specified" in message(nameless[1])
    assert "NAT names must be unique" in message(twice[1])
    assert net("DELETE", f"{REGION}/routers/r")[0] == 200


def test_router_wants_its_network(net):
    """Required by the document."""
    status, answer = net.post(f"{REGION}/routers", {"name": "r"})

    assert status == 400
    assert message(answer) == "Required field 'resource.network' not specified"


def test_address_is_held_by_the_instance_that_uses_it(net):
    """Released only afterwards."""
    net.post(f"{REGION}/addresses", {"name": "addr", "labels": {"a": "b"}})
    _, address = net.get(f"{REGION}/addresses/addr")
    config = {"natIP": address["address"], "type": "ONE_TO_ONE_NAT"}
    nic = {"network": "global/networks/default", "accessConfigs": [config]}
    assert net.insert(networkInterfaces=[nic])[0] == 200

    held = net("DELETE", f"{REGION}/addresses/addr")
    net("DELETE", f"{ZONE}/instances/mayfly-one")
    released = net("DELETE", f"{REGION}/addresses/addr")

    assert (address["addressType"], address["networkTier"]) == ("EXTERNAL", "PREMIUM")
    assert (held[0], released[0]) == (400, 200)


def test_internal_addresses_do_not_collide(net):
    """An address belongs to one holder, reserved or not."""
    subnet = "regions/us-central1/subnetworks/mayfly-us-central1"
    body = {"name": "inner", "addressType": "INTERNAL", "subnetwork": subnet}
    net.post(f"{REGION}/addresses", body)
    net.insert(networkInterfaces=[{"subnetwork": subnet}])

    _, address = net.get(f"{REGION}/addresses/inner")
    _, vm = net.get(f"{ZONE}/instances/mayfly-one")

    taken = {address["address"], vm["networkInterfaces"][0]["networkIP"]}
    assert {"10.10.0.2", "10.10.0.3"} == taken


def end(address, *tags):
    """An instance's resource as far as rules look at it."""
    nic = {"network": "mayfly", "networkIP": address}
    accounts = [{"email": "node@proj"}]
    return {"networkInterfaces": [nic], "tags": {"items": list(tags)}, "serviceAccounts": accounts}


def rule(**changes):
    base = {"network": "mayfly", "direction": "INGRESS", "disabled": False, "priority": 1000}
    return {**base, "allowed": [{"IPProtocol": "tcp"}], "sourceTags": ["node"], **changes}


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ([], False),
        ([rule()], True),
        ([rule(sourceTags=["other"])], False),
        ([rule(sourceTags=["other"], sourceRanges=["10.0.0.0/24"])], True),
        ([rule(sourceTags=[], sourceServiceAccounts=["node@proj"])], True),
        ([rule(targetTags=["node"])], True),
        ([rule(targetTags=["head"])], False),
        ([rule(targetServiceAccounts=["node@proj"])], True),
        ([rule(network="other")], False),
        ([rule(direction="EGRESS")], False),
        ([rule(disabled=True)], False),
        ([rule(allowed=[{"IPProtocol": "6", "ports": ["22", "6000-7000"]}])], True),
        ([rule(allowed=[{"IPProtocol": "tcp", "ports": ["22"]}])], False),
        ([rule(allowed=[{"IPProtocol": "udp"}])], False),
        ([rule(allowed=[{"IPProtocol": "all"}])], True),
        ([rule(), rule(allowed=None, denied=[{"IPProtocol": "tcp"}])], False),
        ([rule(priority=999), rule(allowed=None, denied=[{"IPProtocol": "tcp"}])], True),
    ],
)
def test_packet_passes_by_the_first_rule_that_is_about_it(rules, passes):
    """What comes in is refused unless a rule says otherwise; a refusal wins over its equal."""
    ends = end("10.0.0.2", "node"), end("10.0.0.3", "node")

    assert rulebook.permits(rules, *ends, ("tcp", 6379)) is passes


def test_packet_of_a_machine_that_is_not_there_passes_nowhere(net, world):
    """A machine that is gone may still have a packet on its way."""
    assert not world.machines.permits("1", "2", "tcp", 22)
