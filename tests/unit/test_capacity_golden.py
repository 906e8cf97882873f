"""The texts that the real Pulumi engine printed, where the recordings are at hand."""

import re

import pytest

from mayfly.capacity import classify
from tests.conftest import SHARED

ERRORS = SHARED / "golden/gcp-http/errors.md"
ACTIONS = {
    "01": "next_zone",
    "02": "next_zone",
    "03": "next_region",
    "04": "next_region",
    "05": "stop",
    "06": "stop",
    "07": "stop",
    "08": "stop",
    "09": "next_zone",
    "10": "look_first",
    "11": "stop",
    "12": "stop",
    "13": "look_first",
    "17": "look_first",
    "17b": "look_first",
    "17c": "look_first",
    "18": "look_first",
    "19": "next_zone",
    "20": "stop",
    "23": "look_first",
}


def recorded() -> dict[str, str]:
    if not ERRORS.exists():
        return {}
    sections = re.findall(r"^## (\d\d\w?)-.*?\n(.*?)(?=^## |\Z)", ERRORS.read_text(), re.M | re.S)
    blocks = {number: re.search(r"```\n(.*?)```", body, re.S) for number, body in sections}
    return {number: block.group(1) for number, block in blocks.items() if block}


if recorded():

    @pytest.mark.parametrize("number", ACTIONS)
    def test_recorded_text_gives_the_action_of_the_table(number):
        """Verbatim, line breaks included."""
        assert classify(recorded()[number]).action == ACTIONS[number]
