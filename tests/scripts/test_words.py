"""What a VM says of itself fits where it is kept, and its last word stands."""

import json

from startup import words


def test_timeline_drops_the_oldest_when_it_would_not_fit(machine, timeline):
    """Guest attributes are small; the newest stages are what matters."""
    told = words.Timeline()
    for number in range(120):
        told.start(f"stage-{number}")
        told.end(f"stage-{number}", True, None)

    assert len(json.dumps(timeline(), separators=(",", ":"))) <= words.MAX_TIMELINE_BYTES
    assert timeline()[-1]["stage"] == "stage-119"


def test_words_say_nothing_more_when_the_end_was_announced(machine, phases):
    """Stages that die in the shutdown must not overwrite why the VM ended."""
    words.set_phase("ended", "idle: nobody asked")
    words.set_phase("failed", "killed")

    assert phases() == ["ended"]
    assert machine.google.guest["message"] == "idle: nobody asked"


def test_words_fit_a_guest_attribute_when_a_message_is_long(machine):
    """Readers refuse what is over 1 KiB: the reason would be lost."""
    words.set_message("é\n" * 5000)

    assert len(machine.google.guest["message"].encode()) <= 1024
    assert "\n" not in machine.google.guest["message"]
