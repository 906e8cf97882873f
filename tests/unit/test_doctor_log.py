"""`mayfly.doctor.diagnose`: a pasted log names its trouble, and a log of a good day names none."""

import io
import json
import re

import pytest
import yaml

from mayfly import capacity, cli
from mayfly.doctor import Finding, diagnose
from mayfly.doctor.log import signs, troubles
from tests.conftest import ROOT
from tests.unit.stage_messages import of_modules, of_scripts
from tests.unit.test_commands_named import unknown

HUB = "https://huggingface.co/moonshotai/Kimi-K2.5"
REFUSED = "  gcp:compute:Instance (node-vm):\n    error: 1 error occurred:\n    \t* Error {}\n"
LINES: dict[str, list[str]] = yaml.safe_load((ROOT / "tests/unit/doctor_lines.yaml").read_text())


@pytest.fixture
def stdin(monkeypatch):
    """Puts text into our input."""

    def put(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return put


CATCH_ALLS = {sign.id for sign in signs() if sign.catch_all}


def every_line() -> list[tuple[str, str]]:
    return [(id_, line) for id_, lines in LINES.items() for line in lines]


def test_every_finding_has_a_line_that_really_was_printed():
    """A row that nobody has seen match is a guess."""
    ids = {row.id for row in (*signs(), *capacity.RULES)} | {"no-project"}

    assert ids == set(LINES)


@pytest.mark.parametrize(("id_", "line"), every_line())
def test_diagnose_names_the_trouble_when_a_log_holds_its_line(id_, line):
    """First among all: on a console with thousands of lines, and behind what the console adds."""
    before = "Nov 23 14:20:04 mayfly-dev startup-script[812]: mayfly 10-driver: INFO all is well\n"
    stamped = line if line.startswith("  gcp") else f"mayfly 50-serve: {line}"

    for text in (line, f"{before * 50}{stamped}\n{before * 3}"):
        found = diagnose(text)

        assert found is not None
        assert found.id == id_
        assert found.found in " ".join(text.split())
        assert found.found


@pytest.mark.parametrize(("where", "message"), of_scripts() + of_modules())
def test_diagnose_names_the_trouble_when_a_stage_of_ours_says_it(where, message):
    """A stage that learns a new message has to learn what it means, too."""
    stage = {"35-caches.sh": "caches", "70-save.sh": "save"}.get(where, "engine")

    found = diagnose(f"stage {stage} failed: {message}")

    assert found is not None
    assert found.id not in CATCH_ALLS


def test_stage_messages_are_found_where_they_are():
    """The gate's twin: a reader that finds none of them would be content with none."""
    scripts, modules = of_scripts(), of_modules()

    assert len(scripts) > 50
    assert len(modules) > 15
    assert (
        "30-weights.sh",
        "could not pull the weights from gs://b/models/m/r; see 7/7.log",
    ) in scripts
    assert diagnose("stage engine failed: a message that is in no table").id in CATCH_ALLS


@pytest.mark.parametrize(
    "line",
    [
        "INFO CUDA out of memory is what this flag avoids",
        "(APIServer pid=630) INFO 11-23 14:20:04 [x.py:1] Free memory on device: 70 GiB",
        "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by 812",
        "mayfly 30-weights: WARN try 1 of 5, exit 1: pull weights: could not list gs://b: 503",
        "mayfly 10-driver: INFO driver 580.159.04, fabric manager 580.159.04: left alone",
        "found: NVIDIA H100 80GB HBM3, driver 580.159.04, fabric manager 580.159.04 (active)",
        "mayfly 20-gib: INFO gIB: none found",
        "12 of 64 shards, 802 MB/s, 4 min left",
        "Filesystem 92% used, 8 GB left on device",
        "NCCL INFO NET/Socket : Using [0]eth0",
        "NCCL version 2.28.9+cuda13.0",
        "GET https://huggingface.co/api/models/x 200 OK",
        "unattended-upgrades took the lock /var/lib/dpkg/lock-frontend and released it",
        "ERROR 11-23 14:21:27 [serving.py:224] Error with model error=ErrorInfo(message='The model "
        "`nope` does not exist.', type='NotFoundError', param='model', code=404)",
        "POST /v1/chat/completions 401 Unauthorized",
        "POST /v1/chat/completions 429 Too Many Requests",
        "the operator is not authorized to overtake",
    ],
)
def test_diagnose_names_nothing_when_a_line_only_looks_alike(line):
    """A wrong remedy costs more than none: it is tried first."""
    assert diagnose(line) is None


@pytest.mark.parametrize(
    ("line", "id_"),
    [
        (f"403 Client Error: Forbidden for url: {HUB}", "hub-gated"),
        ("x@p.iam does not have storage.objects.get access to the object (403)", "rights-of-vm"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "gpu-memory"),
        ("Out of memory: Killed process 812 (vllm)", "ram-full"),
        ("CUDA out of memory occurred when warming up sampler with 256", "gpu-memory-sampler"),
        ("NCCL WARN Error: network gIB not found. NCCL error: invalid usage", "nccl-gib"),
        ("NCCL WARN Error: network IB not found. NCCL error: invalid usage", "nccl"),
        ("the disk is full. Raise seeding.disk_gb in profiles/x.yaml", "seed-no-room"),
        ("tar: x: Cannot write: No space left on device", "disk-full"),
        ("driver 580.1 and fabric manager 580.2 differ, error 802", "fabric-manager"),
        (
            "the archive has driver 580.1 but fabric manager 580.2 (error 802)",
            "driver-archive-torn",
        ),
    ],
)
def test_diagnose_tells_two_troubles_apart_when_they_look_alike(line, id_):
    """403 of the hub and of the bucket, memory of GPU and host: other remedies."""
    assert diagnose(line).id == id_


def test_diagnose_names_the_cause_when_its_consequences_are_in_the_log_too():
    """vLLM's last word is nearly always another one than the first that went wrong."""
    text = (
        "RuntimeError: CUDA error: system not yet initialized (error 802)\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
        "mayfly serve: ERROR vLLM ended 31 s after its start: EngineDeadError\n"
        "stage serve failed: vLLM ended 31 s after its start"
    )

    assert [finding.id for finding in troubles(text)] == ["fabric-manager"]


def test_diagnose_reads_through_colours_and_control_characters():
    """What is pasted from a terminal, and shown on one again."""
    found = diagnose("\x1b[31merror: the stack is currently locked by 1 lock(s)\x1b[0m\x07")

    assert found.id == "state-locked"
    assert found.found.isprintable()


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (LINES["weights-missing"][0], "mayfly seed kimi-k2.5"),
        (
            "SafetensorError: Error while deserializing header: x",
            "mayfly seed PROFILE   (moves only what is wrong)",
        ),
        (LINES["caches"][0], "gcloud storage rm -r gs://p-mayfly-cache/kernels/e/h100/580/a1"),
        (
            LINES["api-off"][0],
            "gcloud services enable compute.googleapis.com --project proj",
        ),
        (
            REFUSED.format(
                "waiting for instance to create: A VM is currently unavailable in the "
                "us-central1-a zone. Consider trying your request in the us-central1-b, "
                "us-central1-c zone(s)"
            ),
            "mayfly up PROFILE --zone us-central1-b,us-central1-c",
        ),
    ],
)
def test_remedy_names_what_the_log_names(line, remedy):
    """To be pasted as it is, wherever the log says enough for that."""
    assert diagnose(line).remedy == remedy


def test_table_is_in_order():
    """No row twice, none that is shadowed by its own text, every command in it there."""
    rows = signs()

    assert len({sign.id for sign in rows}) == len(rows)
    assert all(re.fullmatch(r"[a-z0-9-]+", sign.id) for sign in rows)
    assert all(sign.meaning.endswith((".", ")")) for sign in rows)
    assert [s.id for s in rows if diagnose(s.remedy)] == []
    assert [
        s.id for s in rows if unknown(f"Try: {s.remedy}".replace("then mayfly", "then: mayfly"))
    ] == []


def test_finding_holds_to_its_contract():
    """`diagnose(text) -> Finding(id, meaning, remedy)` is what others build on."""
    assert Finding("a", "b", "c") == Finding(
        id="a", meaning="b", remedy="c", found="", grave=True, subject=""
    )


def test_doctor_reads_a_log_from_a_file_and_exits_3(tmp_path, capsys):
    """As `mayfly quota check` says no."""
    log = tmp_path / "console.log"
    log.write_text("noise\n" + LINES["driver-ptx"][0])

    assert cli.main(["doctor", "--log", str(log)]) == 3

    said = capsys.readouterr().out
    assert said.startswith("driver-ptx: torch.AcceleratorError")
    assert "  Try: pulumi config rm mayfly:image" in said


def test_doctor_reads_a_log_from_a_pipe_as_json(stdin, capsys):
    """`mayfly logs dev | mayfly doctor --log -`."""
    stdin(LINES["disk-full"][0])

    assert cli.main(["doctor", "--log", "-", "--json"]) == 3

    found = json.loads(capsys.readouterr().out)
    assert found["log"] == "-"
    assert set(found["findings"][0]) == {"id", "found", "meaning", "remedy", "grave", "subject"}


def test_doctor_exits_0_when_a_log_shows_nothing_grave(stdin, capsys):
    """Caches that were not kept cost a minute; that is no reason to stop a script."""
    stdin(LINES["caches-lost"][0])

    assert cli.main(["doctor", "--log", "-"]) == 0

    assert "caches-lost" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", " \n"])
def test_doctor_exits_2_when_a_log_is_empty(stdin, capsys, text):
    """An empty pipe is a mistake before it: "nothing found" would hide it."""
    stdin(text)

    assert cli.main(["doctor", "--log", "-"]) == 2

    assert "there is nothing in it" in capsys.readouterr().err


def test_doctor_exits_2_when_a_log_cannot_be_read(tmp_path, capsys):
    """One message, no traceback."""
    assert cli.main(["doctor", "--log", str(tmp_path)]) == 2

    assert len(capsys.readouterr().err.strip().splitlines()) == 3
