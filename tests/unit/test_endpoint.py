"""What a VM claims to serve is shown to people: only the contract's form counts."""

import json

import pytest

from mayfly import endpoint

GOOD = {"mode": "safe", "max_model_len": 32768, "served_model": "kimi-k2.5"}


def test_endpoint_is_what_the_vm_says_when_it_keeps_to_the_form():
    """The twin of all below."""
    found = endpoint.parse(json.dumps(GOOD))

    assert found == endpoint.Endpoint(mode="safe", max_model_len=32768, served_model="kimi-k2.5")


@pytest.mark.parametrize(
    "claim",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 1000,
        json.dumps(GOOD | {"mode": "turbo"}),
        json.dumps(GOOD | {"mode": None}),
        json.dumps(GOOD | {"mode": ["fast"]}),
        json.dumps(GOOD | {"max_model_len": "32768"}),
        json.dumps(GOOD | {"max_model_len": True}),
        json.dumps(GOOD | {"max_model_len": 0}),
        json.dumps(GOOD | {"max_model_len": 10**30}),
        json.dumps(GOOD | {"served_model": "\x1b[2J"}),
        json.dumps(GOOD | {"served_model": 1}),
        json.dumps(GOOD | {"more": 1}),
        json.dumps({"mode": "fast", "max_model_len": 1}),
        json.dumps(GOOD | {"served_model": "x" * 2000}),
    ],
)
def test_endpoint_is_unknown_when_the_claim_is_of_another_form(claim):
    """Any process on the VM can write it."""
    assert endpoint.parse(claim) is None
