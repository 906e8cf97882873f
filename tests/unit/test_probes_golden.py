"""Extra, where recordings of a real vLLM 0.24.0 lie beside the project: we read them right."""

from startup import probes
from tests.conftest import SHARED

GOLDEN = SHARED / "golden/vllm-0.24.0"

if GOLDEN.exists():

    def test_probes_see_the_requests_when_the_real_server_is_busy():
        """The stand-in could share our mistakes; this was the real one."""
        sums = probes.parse_metrics((GOLDEN / "metrics-busy.txt").read_text())

        assert sums["vllm:num_requests_running"] == 8
        assert sums["vllm:num_requests_waiting"] == 2
        assert sums["vllm:generation_tokens_total"] == 2695
        assert sums["vllm:request_success_total"] == 4

    def test_probes_see_nothing_when_the_real_server_is_idle():
        """All five must be there from the first answer, or every start would be unknown."""
        sums = probes.parse_metrics((GOLDEN / "metrics-idle.txt").read_text())

        assert not any(sums.values())
