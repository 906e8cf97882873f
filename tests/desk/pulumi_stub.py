"""A pulumi that keeps what it was asked and does as it is told; python, to be written to PATH."""

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
    vms = [{{"type": "gcp:compute/instance:Instance", "outputs": {{"instanceId": i}}}}
           for i in kept["stacks"][stack]]
    print(json.dumps({{"deployment": {{"resources": vms,
          "pending_operations": kept.get("pending", [])}}}}))
elif words[:2] == ["stack", "output"]:
    print(json.dumps(kept["outputs"].get(stack, {{}})))
elif words[0] == "refresh":
    kept.pop("pending", None)
    keep()
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
