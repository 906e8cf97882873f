"""nvidia-smi, and the module tools."""

import sys
import uuid
from typing import Any

import driver
from stub import config, fail

NOT_RUNNING = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n"
)
MEMORY_MIB = {
    "NVIDIA A100-SXM4-40GB": 40960,
    "NVIDIA A100-SXM4-80GB": 81920,
    "NVIDIA H100 80GB HBM3": 81559,
    "NVIDIA H200": 143771,
}
FORMATS = ("csv", "noheader", "nounits")


def main(name: str, argv: list[str]) -> int:
    tools = {"nvidia-smi": smi, "modprobe": modprobe, "rmmod": rmmod, "lsmod": lsmod}
    return tools.get(name, modinfo)(argv)


def smi(argv: list[str]) -> int:
    """The forms that scripts use."""
    machine = config()
    running, on_disk = driver.loaded()["version"], driver.installed().get("version", "")
    if not running:
        print(NOT_RUNNING)
        return 9
    if running != on_disk:
        library = ".".join(on_disk.split(".")[:2])
        print("Failed to initialize NVML: Driver/library version mismatch")
        print(f"NVML library version: {library}")
        return 18
    gpus = [facts(machine, index, running) for index in range(machine["gpu_count"])]
    if argv == ["-L"] or argv == ["--list-gpus"]:
        for gpu in gpus:
            print(f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})")
        return 0
    if not argv:
        return table(gpus, running)
    return query(argv, gpus)


def facts(machine: dict[str, Any], index: int, version: str) -> dict[str, str]:
    model = machine["gpu_model"]
    memory = MEMORY_MIB[model]
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{machine['hostname']}-{index}")
    return {
        "index": str(index),
        "name": model,
        "gpu_name": model,
        "uuid": f"GPU-{identity}",
        "gpu_uuid": f"GPU-{identity}",
        "count": str(machine["gpu_count"]),
        "driver_version": version,
        "pci.bus_id": f"00000000:{4 + index:02X}:00.0",
        "memory.total": f"{memory} MiB",
        "memory.used": "0 MiB",
        "memory.free": f"{memory - 500} MiB",
        "utilization.gpu": "0 %",
        "utilization.memory": "0 %",
        "temperature.gpu": "33",
        "power.draw": "70.00 W",
        "compute_cap": "8.0" if "A100" in model else "9.0",
        "persistence_mode": "Enabled",
        "compute_mode": "Default",
    }


def query(argv: list[str], gpus: list[dict[str, str]]) -> int:
    options: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if key == "--query-gpu" and equals:
            options["query"] = value
        elif key == "--format" and equals:
            options["format"] = value
        elif key in ("-i", "--id") and (equals or rest):
            options["id"] = value if equals else rest.pop(0)
        else:
            return fail(
                f'Invalid combination of input arguments. Please run "nvidia-smi -h": {word}'
            )
    kinds = options.get("format", "").split(",")
    if "query" not in options or "csv" not in kinds or not set(kinds) <= set(FORMATS):
        print(
            "\"--format=\" switch is missing or unknown. Please run 'nvidia-smi --help' for help."
        )
        return 2
    fields = [field.strip() for field in options["query"].split(",")]
    for field in fields:
        if gpus and field not in gpus[0]:
            print(f'Field "{field}" is not a valid field to query.\n')
            return 2
    chosen = [gpu for gpu in gpus if options.get("id", gpu["index"]) in (gpu["index"], gpu["uuid"])]
    if not chosen:
        print("No devices were found")
        return 6
    if "noheader" not in kinds:
        print(", ".join(fields))
    for gpu in chosen:
        values = [gpu[field] for field in fields]
        if "nounits" in kinds:
            values = [value.split(" ")[0] if value[:1].isdigit() else value for value in values]
        print(", ".join(values))
    return 0


def table(gpus: list[dict[str, str]], version: str) -> int:
    cuda = "13.0" if version.startswith("58") else "12.8"
    print(f"NVIDIA-SMI {version}   Driver Version: {version}   CUDA Version: {cuda}")
    for gpu in gpus:
        print(f"{gpu['index']:>4}  {gpu['name']:<24} {gpu['memory.used']} / {gpu['memory.total']}")
    return 0


def modprobe(argv: list[str]) -> int:
    remove, modules = False, []
    for word in argv:
        if word in ("-r", "--remove"):
            remove = True
        elif word in ("-a", "-v", "-q", "--quiet", "--verbose", "--all"):
            continue
        elif word.startswith("-"):
            return fail(f"modprobe: unrecognized option '{word}'")
        else:
            modules.append(word.replace("-", "_"))
    if not modules:
        return fail("modprobe: ERROR: missing parameters. See -h.")
    act = driver.unload if remove else driver.load
    for module in modules:
        problem = act(module, config())
        if problem:
            return fail(problem)
    return 0


def rmmod(argv: list[str]) -> int:
    for word in argv:
        module = word.replace("-", "_")
        if word.startswith("-"):
            return fail(f"rmmod: unrecognized option '{word}'")
        if module not in driver.loaded()["modules"]:
            return fail(f"rmmod: ERROR: Module {module} is not currently loaded")
        if driver.unload(module, config()):
            return fail(f"rmmod: ERROR: Module {module} is in use")
    return 0


def lsmod(argv: list[str]) -> int:
    if argv:
        return fail("Usage: lsmod")
    print(f"{'Module':<24}{'Size':>8}  Used by")
    modules = driver.loaded()["modules"]
    for module in modules:
        users = [other for other in modules if driver.NEEDS.get(other) == module]
        print(f"{module:<24}{16384:>8}  {len(users)} {','.join(users)}".rstrip())
    return 0


def modinfo(argv: list[str]) -> int:
    """`modinfo [-F FIELD] MODULE`."""
    field = ""
    words = list(argv)
    if words[:1] == ["-F"] and len(words) > 1:
        field, words = words[1], words[2:]
    if len(words) != 1 or words[0].startswith("-"):
        return fail("modinfo: ERROR: missing module or filename.")
    on_disk = driver.installed()
    if words[0].replace("-", "_") not in driver.MODULES or not on_disk:
        return fail(f"modinfo: ERROR: Module {words[0]} not found.")
    known = {
        "filename": f"/lib/modules/{driver.release()}/updates/dkms/{words[0]}.ko",
        "version": on_disk["version"],
        "license": "Dual MIT/GPL",
    }
    if field and field not in known:
        return 0  # as kmod: a field that the module lacks prints nothing
    for key, value in known.items():
        if not field:
            print(f"{key + ':':<16}{value}")
        elif key == field:
            print(value)
    sys.stdout.flush()
    return 0
