"""A pulumi that keeps what it was asked and does as it is told; python, to be written to PATH."""

import json
from pathlib import Path
from typing import Any

from mayfly import names
from tests.desk.google import PROJECT

WEIGHTS = names.bucket(PROJECT, "weights")
STATE = names.bucket(PROJECT, "state")
CACHE = names.bucket(PROJECT, "cache")
FOUNDATION = {
    "regions": ["us-central1"],
    "subnets": {"us-central1": "s1"},
    "weights_bucket": WEIGHTS,
    "state_bucket": STATE,
    "cache_bucket": CACHE,
}
SERVES = {"served_model": "kimi-k2.5", "zone": "us-central1-a", "hourly_usd": 21.9}

SCRIPT = """#!{python}
import json, os, signal, sys, time
from pathlib import Path
home = Path(os.environ["STUB_HOME"])
with open(home / "log", "a") as f: f.write(" ".join(sys.argv[1:]) + chr(10))
kept = json.loads((home / "kept.json").read_text())
def keep(): (home / "kept.json").write_text(json.dumps(kept))
words = sys.argv[1:]
stack = words[words.index("--stack") + 1] if "--stack" in words else ""
if words[:2] == ["stack", "ls"]:
    print(json.dumps([{{"name": n}} for n in kept["stacks"]]))
elif words[:2] == ["stack", "init"]:
    kept["stacks"][words[2]] = []
    keep()
elif words[:2] == ["stack", "export"]:
    vms = [{{"type": "gcp:compute/instance:Instance", 
            "urn": "urn:vm", "outputs": {{"instanceId": i, "zone": "us-central1-a"}}}}
           for i in kept["stacks"][stack]]
    vms.append({{"type": "mayfly:components:GpuNode", "urn": "urn:node"}})
    print(json.dumps({{"deployment": {{"resources": vms,
          "pending_operations": kept.get("pending", [])}}}}))
elif words[:2] == ["stack", "output"]:
    print(json.dumps(kept["outputs"].get(stack, {{}})))
elif words[0] == "import":
    kept["stacks"][stack] = kept.get("imports", [])
    keep()
    sys.exit(0 if kept.get("imports") else 1)
elif words[0] == "refresh":
    kept.pop("pending", None)
    keep()
elif words[0] == "destroy" and kept.get("stuck"):
    sys.exit(1)
elif words[0] == "destroy":
    kept["stacks"][stack] = []
    keep()
elif words[0] == "up":
    step = kept["ups"].pop(0) if kept["ups"] else {{}}
    kept["stacks"][stack] = step.get("state", kept["stacks"][stack])
    kept["pending"] = step.get("pending", [])
    keep()
    print(step.get("says", ""), flush=True)
    if step.get("hangs"):
        def end(*_): print("cancelled", flush=True); sys.exit(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN if step["hangs"] == "deaf" else end)
        (home / "hanging").touch()
        time.sleep(60)
    sys.exit(step.get("status", 0))
"""


class Pulumi:
    """What the stub is told, and what it was asked."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.kept: dict[str, Any] = {
            "stacks": {"foundation": [], "dev": []},
            "outputs": {"foundation": FOUNDATION, "dev": SERVES},
            "ups": [],
        }

    def up(self, *steps: dict[str, Any]) -> None:
        """What the next `up`s do: says, status, state (ids of VMs), pending, hangs."""
        self.kept["ups"] = list(steps)
        self.save()

    def save(self) -> None:
        (self.home / "kept.json").write_text(json.dumps(self.kept))

    @property
    def lines(self) -> list[str]:
        log = self.home / "log"
        return log.read_text().splitlines() if log.exists() else []

    def zones(self) -> list[str]:
        """Of each `up` of the session, by the configuration before it."""
        words = [line.split("mayfly:zone=")[1] for line in self.lines if "mayfly:zone=" in line]
        return [word.split()[0] for word in words]
