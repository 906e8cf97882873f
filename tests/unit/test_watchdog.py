"""The watchdog on the machine: a clock that a test turns, a fake Google, a fake vLLM."""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from startup import paths, watchdog, words
from tests.fake_google import FakeGoogle

WALL0 = 1_800_000_000.0
MONO0 = 1000.0
IDLE_S, START_S, FAILED_S, HEARTBEAT_S, LIFE_S = 240, 360, 60, 60, 1200
PERIOD_S = 15.0
METRICS = """# HELP vllm:num_requests_running Number of requests.
vllm:num_requests_running{{engine="0",model_name="kimi-k2.5"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="kimi-k2.5"}} {waiting}
vllm:num_requests_waiting_by_reason{{engine="0",reason="capacity"}} 7.0
vllm:prompt_tokens_total{{engine="0",model_name="kimi-k2.5"}} {tokens}
vllm:generation_tokens_total{{engine="0",model_name="kimi-k2.5"}} {tokens}
vllm:request_success_total{{engine="0",finished_reason="stop"}} {done}
vllm:request_success_total{{engine="0",finished_reason="length"}} 0.0
vllm:request_success_created{{engine="0",finished_reason="stop"}} 1.79e+09
"""


class FakeVllm:
    """Answers /metrics from its fields; `mode` "hang" drips, "garbage" lies, "down" is 500.

    "mute" takes the connection and says nothing.
    """

    def __init__(self) -> None:
        self.running = self.waiting = self.tokens = self.done = 0.0
        self.mode = "up"
        self._released = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        while self.mode == "mute" and not self._released.wait(0.05):
            pass
        request.send_response(500 if self.mode == "down" else 200)
        request.end_headers()
        try:
            while self.mode == "hang" and not self._released.wait(0.05):
                request.wfile.write(b"#")
                request.wfile.flush()
            text = "garbage" if self.mode == "garbage" else METRICS.format(**vars(self))
            request.wfile.write(text.encode())
        except OSError:
            pass  # the watchdog hung up, as it should

    def close(self) -> None:
        self._released.set()
        self.server.shutdown()
        self.server.server_close()


class World:
    """A machine that serves: time, people, files; `pass_s` looks once a period."""

    def __init__(self, root, google, vllm) -> None:
        self.root, self.google, self.vllm = root, google, vllm
        self.mono, self.wall, self.true = MONO0, WALL0, WALL0
        google.clock = lambda: self.true
        self.powered_off = 0
        self.settings = {
            "MAYFLY_IDLE_S": str(IDLE_S),
            "MAYFLY_START_S": str(START_S),
            "MAYFLY_FAILED_S": str(FAILED_S),
            "MAYFLY_HEARTBEAT_S": str(HEARTBEAT_S),
            "MAYFLY_MAX_LIFE_S": str(LIFE_S),
            "MAYFLY_STATE_BUCKET": "s",
            "MAYFLY_SESSION": "dev",
            "MAYFLY_PORT": str(vllm.server.server_port),
        }
        self.systemctl = root / "systemctl"
        (root / "dev/pts").mkdir(parents=True)
        (root / "proc").mkdir()
        self.start()

    def start(self) -> None:
        """The watchdog as systemd starts it, also again after it was killed."""
        clock = watchdog.Clock(lambda: self.mono, lambda: self.wall)
        self.dog = watchdog.Watchdog(self.settings, self._off, clock)

    def _off(self) -> None:
        self.powered_off += 1

    def look(self, after_s: float = PERIOD_S):
        self.mono += after_s
        self.wall += after_s
        self.true += after_s
        return self.dog.look()

    def pass_s(self, seconds: float):
        """Looks until that much time has passed or it ends; the last verdict."""
        verdict = None
        for _ in range(int(seconds / PERIOD_S)):
            verdict = self.look()
            if verdict.end:
                break
        return verdict

    def terminal(self, *, read_s: float, written_s: float = 0) -> None:
        """A login that opened now: its input was read and its output written so much later."""
        pty = self.root / "dev/pts/0"
        pty.touch()
        opened = time.time()  # ctime, which no program can set
        os.utime(pty, (opened + read_s, opened + written_s))

    def process(
        self, pid: int, parent: int, comm: str, *, tty=0, cpu_s=0.0, moved=0, exe="/usr/bin/x"
    ) -> None:
        ticks = int(cpu_s * 100)
        folder = self.root / "proc" / str(pid)
        folder.mkdir(exist_ok=True)
        stat = f"{pid} ({comm}) S {parent} 1 1 {tty} -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 4242 0 0\n"
        (folder / "stat").write_text(stat)
        (folder / "io").write_text(f"rchar: {moved}\nwchar: 0\nsyscr: 1\n")
        (folder / "exe").unlink(missing_ok=True)
        (folder / "exe").symlink_to(exe)

    def unit(self, state: str, result: str = "success", system: str = "running") -> None:
        """What systemctl says from now on; `calls` has what it was asked to change."""
        self.systemctl.mkdir(exist_ok=True)
        program = self.systemctl / "systemctl"
        program.write_text(
            f"#!/bin/sh\ncase $1 in is-system-running) echo {system} ;;\n"
            f"show) printf 'ActiveState={state}\\nResult={result}\\n' ;;\n"
            f'*) echo "$*" >>{self.systemctl}/calls ;; esac\n'
        )
        program.chmod(0o755)

    def calls(self) -> list[str]:
        return paths.read(self.systemctl / "calls").splitlines()

    def since_start(self, claim: str) -> float:
        """Seconds from the start to the time in a published claim."""
        at = time.strptime(self.google.guest[claim], "%Y-%m-%dT%H:%M:%SZ")
        return time.mktime(at) - time.mktime(time.gmtime(WALL0))


@pytest.fixture
def world(tmp_path, monkeypatch):
    (tmp_path / "buckets").mkdir()
    google, vllm = FakeGoogle(tmp_path / "buckets"), FakeVllm()
    for name, value in google.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("startup.cloud._token", ("", 0.0))  # of another test's Google
    monkeypatch.setenv("MAYFLY_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr("startup.probes.METRICS_TIMEOUT_S", 0.3)
    made = World(tmp_path / "root", google, vllm)
    made.unit("active")
    monkeypatch.setenv("PATH", str(made.systemctl), prepend=":")
    yield made
    google.close()
    vllm.close()


@pytest.fixture
def serving(world):
    """It has started and served for a minute, with nothing asked."""
    words.set_phase("weights")
    world.look()
    words.set_phase("serving")
    world.pass_s(60)
    return world


# When a machine of the fixture `serving` is idle for the limit: it was active until it served.
IDLE_AT = MONO0 + PERIOD_S + IDLE_S


def test_watchdog_powers_off_one_period_after_the_limit_when_nobody_asks(serving):
    """The promise on the first page: twenty idle minutes, not the night."""
    verdict = serving.pass_s(IDLE_S + 60)

    assert (verdict.end, verdict.kind) == (True, "idle")
    assert IDLE_AT <= serving.mono <= IDLE_AT + PERIOD_S
    assert serving.powered_off == 1
    assert serving.google.guest["phase"] == "ended"
    assert serving.google.guest["message"] == "idle for 4 min"


def test_watchdog_powers_off_again_when_the_machine_still_runs(serving):
    """A shutdown that hangs goes on costing; the reason must stay what it was."""
    serving.pass_s(IDLE_S + 60)
    serving.look()

    assert serving.powered_off == 2
    assert serving.google.guest["message"] == "idle for 4 min"


def asks(world, _):
    world.vllm.tokens += 1


def runs(world, _):
    world.vllm.running = 1.0


def waits(world, _):
    world.vllm.waiting = 1.0


def types(world, step):
    world.terminal(read_s=step * 8)


def computes(world, step):
    world.process(10, 1, "sshd")
    world.process(11, 10, "sshd-session")
    world.process(12, 11, "bash")
    world.process(13, 12, "python3", cpu_s=step * 2.0)


def copies(world, step):
    world.process(10, 1, "sshd")
    world.process(12, 10, "sftp-server", moved=step * 400_000)


def notebook(world, step):
    """A kernel that VS Code started computes; its interpreter is not the editor's own."""
    world.process(10, 1, "sshd")
    world.process(12, 10, "node", exe=EDITOR)
    world.process(13, 12, "python3", cpu_s=step * 2.0, exe="/opt/venv/bin/python3")


def editor_copies(world, step):
    """Files dropped into VS Code's window come through its server."""
    world.process(10, 1, "sshd")
    world.process(12, 10, "node", moved=int(step * PERIOD_S * 2e6), exe=EDITOR)


def counter_starts_again(world, step):
    world.vllm.tokens = 5.0 if step % 2 else 4.0


WORK = {
    asks: "a request was served",
    runs: "1 requests running, 0 waiting",
    waits: "0 requests running, 1 waiting",
    types: "keys pressed on pts/0",
    computes: "python3 at work over SSH",
    copies: "sftp-server at work over SSH",
    notebook: "python3 at work over SSH",
    editor_copies: "an editor copies files",
    counter_starts_again: "a request was served",
}


@pytest.mark.parametrize("work", WORK)
def test_watchdog_stays_when_there_is_work(serving, work):
    """Each is somebody who would lose a session."""
    for step in range(1, 40):
        work(serving, step)
        assert not serving.look().end
    assert serving.powered_off == 0
    assert serving.since_start("active_at") >= 39 * PERIOD_S
    assert json.loads(serving.google.guest["look"]) == {"active": WORK[work], "unknown": ""}


def nothing(world, step):
    pass


def tunnels(world, step):
    """sshd itself moves the bytes of forwarded ports and keepalives."""
    world.process(10, 1, "sshd", cpu_s=step, moved=step * 10_000_000)
    world.process(11, 10, "sshd-session", cpu_s=step, moved=step * 10_000_000)


EDITOR = "/home/ann/.vscode-server/cli/servers/Stable-7adae6a/server/node"


def silent_editor(world, step):
    """VS Code left open overnight: its port scan, a language server that indexes for an hour."""
    world.process(10, 1, "sshd")
    passed_s = step * PERIOD_S
    moved = int(passed_s * 200_000)
    world.process(12, 10, "node", cpu_s=passed_s * 0.06, moved=moved, exe=EDITOR)
    world.process(13, 12, "node", cpu_s=passed_s, moved=int(passed_s * 2000), exe=EDITOR)
    world.process(14, 12, "bash", cpu_s=0.1, moved=4000)


def scrolls(world, step):
    """Output alone moves mtime, not atime; a program on a terminal has a tty."""
    world.terminal(read_s=0, written_s=step)
    world.process(10, 1, "sshd")
    world.process(12, 10, "top", tty=34816, cpu_s=step * 10)


def logs_in_again(world, step):
    """A laptop whose line comes and goes; nobody sits at it."""
    (world.root / "dev/pts/0").unlink(missing_ok=True)
    world.terminal(read_s=0)


def daemon(world, step):
    """Work that no login has started."""
    world.process(12, 1, "ops-agent", cpu_s=step * 10, moved=step * 10_000_000)


@pytest.mark.parametrize("noise", [nothing, tunnels, silent_editor, scrolls, logs_in_again, daemon])
def test_watchdog_ends_it_when_there_is_only_noise(serving, noise):
    """Each has kept somebody's machine alive over a weekend."""
    verdict = None
    for step in range(1, 40):
        noise(serving, step)
        verdict = serving.look()
        if verdict.end:
            break

    assert verdict.kind == "idle"


@pytest.mark.parametrize("mode", ["hang", "garbage"])
def test_watchdog_calls_it_unknown_when_metrics_cannot_be_read(serving, mode):
    """What is unknown is not idle; for ever unknown is not alive."""
    serving.pass_s(IDLE_S - 90)
    before = serving.google.guest["heartbeat"]
    serving.vllm.mode = mode

    verdict = serving.pass_s(45)  # within heartbeat_s

    assert not verdict.end
    assert serving.google.guest["heartbeat"] == before
    verdict = serving.pass_s(60)
    assert verdict.kind == "silent"
    assert "/metrics" in serving.google.guest["message"]
    assert serving.calls() == []


RESTART = ["reset-failed mayfly-vllm.service", "restart mayfly-vllm.service"]
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
LOG = f"INFO 200 OK\nERROR [core.py:337] {OOM}\nEngineDeadError: see the stack trace above\n"


def load(world) -> object:
    return json.loads(world.google.guest["load"])


def test_watchdog_tells_the_speed_when_tokens_are_generated(serving):
    """Whoever watches a session sees it from here: nobody else may ask vLLM without a tunnel."""
    assert load(serving) == {"tok_s": 0.0, "running": 0, "waiting": 0}

    serving.vllm.tokens += 1500
    serving.vllm.running = 2.0
    serving.look()
    assert load(serving) == {"tok_s": 100.0, "running": 2, "waiting": 0}

    serving.vllm.tokens = 30.0  # it was started again
    serving.look()
    assert load(serving) == {"tok_s": 2.0, "running": 2, "waiting": 0}


def test_watchdog_tells_no_speed_when_vllm_does_not_answer(serving):
    """An old figure would look like work."""
    serving.vllm.mode = "down"
    serving.look()

    assert load(serving) is None


def dies(world, log=LOG, state="failed", result="exit-code"):
    world.vllm.mode = "down"
    world.unit(state, result)
    paths.log_dir().mkdir(parents=True, exist_ok=True)
    with (paths.log_dir() / "vllm.log").open("a") as file:
        file.write(log)


def test_watchdog_starts_vllm_again_when_it_dies(serving):
    """Two minutes without an answer, instead of a new VM that may not be had."""
    dies(serving)

    serving.look()

    assert serving.calls() == RESTART
    assert words.phase() == "serving"
    assert OOM in serving.google.guest["message"]
    assert serving.google.guest["message"].startswith("starting vLLM again: vLLM ended (exit-code)")


def test_watchdog_says_that_it_was_started_again_when_vllm_answers(serving):
    """Whoever looks later should know why their requests failed."""
    paths.write(paths.run_dir() / "answers", "kimi-k2.5 answers")
    dies(serving)
    serving.look()
    serving.unit("active")
    assert not serving.pass_s(2 * HEARTBEAT_S).end  # it loads: neither idle nor silent

    serving.vllm.mode = "up"
    verdict = serving.look()

    assert not verdict.end
    message = serving.google.guest["message"]
    assert message.startswith("kimi-k2.5 answers; started again after: vLLM ended")
    assert OOM in message
    assert serving.calls() == RESTART


def test_watchdog_keeps_the_idle_clock_when_it_starts_vllm_again(serving):
    """A crash must not give a forgotten VM another idle limit."""
    serving.pass_s(IDLE_S - 120)
    dies(serving)
    serving.look()
    serving.unit("active")

    verdict = serving.pass_s(IDLE_S)

    assert verdict.kind == "idle"
    assert serving.mono <= IDLE_AT + PERIOD_S


def test_watchdog_calls_it_failed_when_vllm_dies_again(serving):
    """A second time is no accident: the reason and five minutes, not silence."""
    dies(serving)
    serving.look()
    dies(serving, log="RuntimeError: NCCL error: unhandled cuda error\n")

    serving.look()

    assert words.phase() == "failed"
    message = serving.google.guest["message"]
    assert "vLLM ended (exit-code): RuntimeError: NCCL error" in message
    assert "started again 0 min before" in message
    failed_at = serving.mono
    verdict = serving.pass_s(2 * FAILED_S)
    assert (verdict.end, verdict.kind) == (True, "failed")
    assert failed_at + FAILED_S <= serving.mono <= failed_at + FAILED_S + PERIOD_S
    assert "NCCL error" in serving.google.guest["message"]
    assert serving.calls() == RESTART


def test_watchdog_starts_vllm_again_when_the_last_time_is_long_ago(serving, monkeypatch):
    """Once an hour a crash costs less than a new VM."""
    monkeypatch.setattr("startup.serving.AGAIN_S", 30.0)
    dies(serving)
    serving.look()
    serving.look(after_s=31)

    assert serving.calls() == 2 * RESTART
    assert words.phase() == "serving"


@pytest.mark.parametrize("mode", ["mute", "down"])
def test_watchdog_starts_vllm_again_when_it_lives_and_does_not_answer(serving, mode):
    """A process that hangs in a dead collective looks alive to systemd."""
    serving.vllm.mode = mode
    assert not serving.pass_s(45).end
    assert serving.calls() == []

    serving.pass_s(30)

    assert serving.calls() == RESTART
    assert "vLLM did not answer for 60 s" in serving.google.guest["message"]


def test_watchdog_calls_it_failed_when_vllm_does_not_come_back(serving):
    """A start that hangs may take as long as the first one, and no longer."""
    serving.settings["MAYFLY_IDLE_S"] = "900"
    serving.start()
    dies(serving)
    serving.look()
    serving.unit("active")

    assert not serving.pass_s(START_S - 30).end
    serving.pass_s(60)

    assert words.phase() == "failed"
    assert "vLLM did not answer for 6 min" in serving.google.guest["message"]


def test_watchdog_leaves_vllm_alone_when_somebody_has_stopped_it(serving):
    """Who tries another command line by hand must not find ours beside it."""
    dies(serving, state="inactive", result="success")
    for step in range(1, 20):
        types(serving, step)
        assert not serving.look().end

    assert serving.calls() == []


def test_watchdog_starts_vllm_again_when_it_ends_well_and_nobody_is_there(serving):
    """With its engine dead the server ends with status 0."""
    dies(serving, state="inactive", result="success")

    serving.look()

    assert serving.calls() == RESTART


def test_watchdog_leaves_vllm_alone_when_the_machine_goes_down(serving):
    """A preempted VM stops its units; that is no crash to tell of."""
    dies(serving)
    serving.unit("failed", "exit-code", system="stopping")

    serving.look()

    assert serving.calls() == []
    assert "message" not in serving.google.guest


def test_watchdog_calls_it_silent_when_systemd_does_not_answer_either(serving):
    """Blind, it decides as for anything unknown."""
    dies(serving)
    (serving.systemctl / "systemctl").write_text("#!/bin/sh\nexit 1\n")

    assert serving.pass_s(2 * HEARTBEAT_S).kind == "silent"
    assert "systemctl show" in serving.google.guest["message"]


def test_watchdog_stays_when_somebody_works_on_a_dead_server(serving):
    """Who looks into a crash at the terminal is at work, whatever /metrics says."""
    serving.vllm.mode = "down"
    for step in range(1, 40):
        types(serving, step)
        assert not serving.look().end


def test_watchdog_goes_on_from_what_it_knew_when_it_was_killed(serving):
    """A restart that starts the clock anew would be a way to live for ever."""
    for _ in range(5):
        serving.pass_s(60)
        serving.start()
        if serving.powered_off:
            break

    assert serving.powered_off == 1
    assert serving.mono <= IDLE_AT + 2 * PERIOD_S


def test_watchdog_keeps_the_age_when_the_machine_reboots(world):
    """The deadline counts from the VM's birth, not from its last boot."""
    world.pass_s(150)
    for file in paths.run_dir().iterdir():
        file.unlink()
    world.mono, world.wall, world.true = 5.0, world.wall + 60, world.true + 60
    world.start()

    assert world.pass_s(2 * START_S).kind == "failed"
    assert world.mono == pytest.approx(5 + START_S + FAILED_S - 210, abs=2 * PERIOD_S)


@pytest.mark.parametrize("jump_s", [86_400, -86_400])
def test_watchdog_neither_ends_nor_stays_when_the_wall_clock_jumps(serving, jump_s):
    """The first minutes of a VM are when its clock is set."""
    serving.wall += jump_s

    assert not serving.pass_s(IDLE_S - 90).end
    assert serving.pass_s(120).kind == "idle"
    assert IDLE_AT <= serving.mono <= IDLE_AT + PERIOD_S


def lease(world, left_s: float) -> None:
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(world.true + left_s))
    world.google.put("gs://s/leases/dev", json.dumps({"until": until, "by": "me"}))


def test_watchdog_stays_until_the_lease_ends_when_there_is_one(serving):
    """`mayfly keep 2h` is for work that nobody can see."""
    lease(serving, 600)

    assert serving.pass_s(585).kind == "leased"
    assert serving.pass_s(60).kind == "idle"


def test_watchdog_ends_it_when_the_lease_is_another_machines(serving):
    """Yesterday's session had the same name; its lease must not hold today's."""
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(serving.wall + 600))
    body = {"until": until, "by": "me", "vm_id": "42"}
    serving.google.put("gs://s/leases/dev", json.dumps(body))

    assert serving.pass_s(IDLE_S).kind == "idle"


def test_watchdog_takes_no_risk_when_it_does_not_know_its_own_number(world):
    """An older lease may hold it then, never past the deadline; a newer one must."""
    world.google.vm_id = ""
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(world.wall + 600))
    world.google.put("gs://s/leases/dev", json.dumps({"until": until, "vm_id": "42"}))
    words.set_phase("serving")

    assert world.pass_s(IDLE_S + 60).kind == "leased"


@pytest.mark.parametrize("jump_s", [86_400, -86_400])
def test_watchdog_keeps_to_the_lease_when_the_wall_clock_jumps(serving, jump_s):
    """The clock that a lease is written in may be set before or while it holds."""
    serving.wall += jump_s
    lease(serving, 600)
    serving.pass_s(75)
    serving.wall -= 2 * jump_s

    assert serving.pass_s(495).kind == "leased"
    assert serving.pass_s(60).kind == "idle"


@pytest.mark.parametrize("jump_s", [86_400, -86_400, 10])
def test_watchdog_tells_googles_time_when_its_own_clock_is_wrong(serving, jump_s):
    """The reaper would call a beat from tomorrow none, and end a session in use."""
    serving.wall += jump_s
    serving.pass_s(30)

    assert serving.since_start("heartbeat") == serving.true - WALL0


def test_watchdog_takes_its_own_clock_when_google_tells_none(serving, monkeypatch):
    """The metadata server that could tell is the one to be told."""
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    lease(serving, 600)

    assert serving.pass_s(IDLE_S).kind == "leased"


def test_watchdog_asks_storage_once_a_minute_when_somebody_is_at_work(serving):
    """Four TLS handshakes a minute would be most of what the watchdog costs."""
    serving.vllm.running = 1.0
    serving.google.asked.clear()

    serving.pass_s(600)

    assert 9 <= sum("leases" in path for path in serving.google.asked) <= 11


def test_watchdog_ends_it_at_the_deadline_when_a_lease_says_otherwise(serving):
    """The cap on the bill is not negotiable from inside."""
    lease(serving, 1e6)

    assert serving.pass_s(2 * LIFE_S).kind == "deadline"
    assert serving.mono <= MONO0 + LIFE_S + PERIOD_S


@pytest.mark.parametrize("content", ["", "[]", '{"until": 5}', '{"until": "soon"}', "x" * 5000])
def test_watchdog_ignores_a_lease_when_it_is_malformed(serving, content):
    """A broken file must neither hold a machine nor stop the watch."""
    serving.google.put("gs://s/leases/dev", content)

    assert serving.pass_s(IDLE_S + 60).kind == "idle"


def test_watchdog_takes_403_for_no_lease_when_it_may_not_list(serving):
    """Cloud Storage says 403, not 404, for what is not there to who may not list."""
    serving.google.faults["leases"] = [403] * 500

    assert serving.pass_s(IDLE_S + 60).kind == "idle"
    assert serving.mono <= IDLE_AT + PERIOD_S


def test_watchdog_waits_a_while_when_it_cannot_read_the_lease(serving):
    """Somebody may just have asked to keep it; but storage that is down for ever holds nothing."""
    serving.google.faults["leases"] = [503] * 500

    verdict = serving.pass_s(2 * IDLE_S)

    assert verdict.kind == "idle"
    assert serving.mono == pytest.approx(IDLE_AT + HEARTBEAT_S, abs=2 * PERIOD_S)


def test_watchdog_ends_a_failed_start_when_nobody_looks_into_it(world):
    """Five minutes to read the reason; the message keeps it."""
    words.set_phase("weights")
    world.pass_s(120)
    words.set_phase("failed", "stage weights failed: no room")

    verdict = world.pass_s(300)

    assert verdict.kind == "failed"
    assert world.mono == pytest.approx(MONO0 + 120 + FAILED_S, abs=2 * PERIOD_S)
    assert "no room" in world.google.guest["message"]


def test_watchdog_ends_a_start_when_it_takes_for_ever(world):
    """A runner that was killed in the middle says nothing any more."""
    words.set_phase("loading")

    assert world.pass_s(2 * START_S).kind == "failed"
    assert world.mono == pytest.approx(MONO0 + START_S + FAILED_S, abs=2 * PERIOD_S)


def test_watchdog_watches_the_bytes_when_it_seeds(world):
    """A seed works for hours without a request; a stuck one must not."""
    words.set_phase("seeding")
    for step in range(40):
        paths.write(paths.run_dir() / "progress", str(step))
        assert not world.look().end

    assert world.pass_s(IDLE_S + 60).kind == "idle"


def test_watchdog_says_nothing_new_when_a_seed_has_ended_itself(world):
    """`seeded` is what `pulumi up` waits for."""
    words.set_phase("seeded", "done")

    world.look()

    assert world.powered_off == 1
    assert world.google.guest["phase"] == "seeded"


def test_watchdog_ends_it_when_google_does_not_answer_at_all(serving, monkeypatch):
    """Publishing is news, not a condition."""
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_STORAGE_CUSTOM_ENDPOINT", "http://127.0.0.1:9/storage/v1/")

    verdict = serving.pass_s(2 * IDLE_S)

    assert verdict.kind == "idle"
    assert serving.powered_off == 1


def full(path, text):
    raise OSError(28, "No space left on device")


def test_watchdog_powers_off_when_the_disk_is_full(serving, monkeypatch):
    """What cannot be written down happens all the same."""
    serving.pass_s(IDLE_S - 90)
    monkeypatch.setattr(paths, "write", full)

    assert serving.pass_s(120).kind == "idle"
    assert serving.powered_off == 1


def test_watchdog_stays_when_the_disk_is_full_and_there_is_work(serving, monkeypatch):
    """A disk full of logs is no reason to cut off who is at work."""
    monkeypatch.setattr(paths, "write", full)
    serving.vllm.running = 1.0

    assert serving.pass_s(2 * IDLE_S).kind == "active"
    assert serving.powered_off == 0


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"created": "x"}', '{"created": null}', "\x00"]
)
def test_watchdog_starts_afresh_when_its_memory_is_damaged(world, text):
    """Half a file after a crash must not stop the watch."""
    paths.write(paths.run_dir() / "watchdog.json", text)
    world.start()

    assert not world.look().end


def test_watchdog_looks_more_often_when_the_limit_is_short(world):
    """A limit of 12 s with a look every 15 s would mean up to 27."""
    world.settings["MAYFLY_IDLE_S"] = "12"
    world.start()

    assert watchdog.period_s(world.dog.limits) == 1.5


@pytest.mark.parametrize(
    ("first", "calls"), [(0, ["poweroff"]), (1, ["poweroff", "poweroff --force"])]
)
def test_power_off_insists_when_systemd_refuses(tmp_path, monkeypatch, first, calls):
    """A job that blocks the shutdown must not keep eight GPUs."""
    log, program = tmp_path / "log", tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$*" >>{log}\n[ "$2" = --force ] || exit {first}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    watchdog.power_off()

    assert log.read_text().splitlines() == calls
