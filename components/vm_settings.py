"""What a VM is told in its metadata (docs/architecture.md). No secret is among it."""

import json
from collections.abc import Mapping
from typing import Any

import pulumi

from components import startup_archive
from components.foundation_outputs import FoundationOutputs
from mayfly import names
from mayfly.machines import MACHINES
from mayfly.probe_case import Plan, case_of
from mayfly.profile import Mode
from mayfly.settings import NOTHING_DONE, SeedSettings, SessionSettings, VmSettings

PORT = 8000
"""vLLM's port on the VM's loopback."""
SAFE_MODE = "fast"
"""What is served when another mode fails its check."""


def metadata(told: dict[str, Any]) -> dict[str, str]:
    """A VM's whole metadata around what `for_session` or `for_seed` tells it."""
    archive = startup_archive.build(startup_archive.files(told["layer"]))
    return {
        "startup-script": startup_archive.BOOT.read_text(encoding="utf-8"),
        "mayfly-archive": archive.text,
        "mayfly-archive-sha256": archive.sha256,
        names.SETTINGS_KEY: json.dumps(told, sort_keys=True),
        "enable-guest-attributes": "TRUE",
        "enable-oslogin": "TRUE",
        "block-project-ssh-keys": "TRUE",
        "serial-port-logging-enable": "TRUE",
    }


def for_session(
    settings: SessionSettings, found: FoundationOutputs, gpu_count: int
) -> dict[str, Any]:
    """The settings of a serving VM."""
    vm = settings.vm
    modes = vm.profile.machines[vm.machine]
    return {
        **_both(vm, found),
        "served_model": vm.profile.served_model,
        "port": PORT,
        "mode": settings.mode,
        "serve_flags": list(modes[settings.mode].flags),
        "safe_flags": [] if settings.mode == SAFE_MODE else _safe_flags(modes),
        "load_format": vm.profile.engine.load_format,
        "kernel_caches": "1" if settings.kernel_caches else "",
        "api_key_secret": found.api_key_secret,
        "gpu_count": gpu_count,
    }


def _safe_flags(modes: Mapping[str, Mode]) -> list[str]:
    return list(modes[SAFE_MODE].flags) if SAFE_MODE in modes else []


def for_probe(settings: SessionSettings, found: FoundationOutputs) -> dict[str, Any]:
    """The settings of a VM that measures one rank: no weights, no key, no port."""
    vm = settings.vm
    plan = Plan(profile=vm.profile, machine=settings.probe, mode=settings.mode)
    return {
        **_both(vm, found),
        "layer": "probe",
        "mode": settings.mode,
        "probe": settings.probe,
        "case": case_of(plan).told(),
        "gpu_count": MACHINES[vm.machine].gpus,
    }


def for_seed(settings: SeedSettings, found: FoundationOutputs) -> dict[str, Any]:
    """The settings of a seeding VM."""
    profile = settings.vm.profile
    return {
        **_both(settings.vm, found),
        "hf_token_secret": found.hf_token_secret,
        "disk_gb": profile.seeding.disk_gb,
        "parallel": profile.seeding.parallel,
        "engine_lock": profile.engine.lock,
    }


def _both(vm: VmSettings, found: FoundationOutputs) -> dict[str, Any]:
    profile, limits = vm.profile, vm.limits
    weights = f"gs://{found.weights_bucket}"
    return {
        "layer": vm.layer,
        "session": vm.session,
        "profile": profile.name,
        "started_by": vm.started_by,
        "project": vm.project,
        "region": vm.region,
        "zone": vm.zone,
        "weights_bucket": found.weights_bucket,
        "cache_bucket": found.cache_bucket,
        "state_bucket": found.state_bucket,
        "hourly_usd": vm.rate.hourly_usd,
        "rate_source": vm.rate.source,
        "rate_date": vm.rate.date,
        "provisioning": vm.provisioning,
        "machine": vm.machine,
        "max_life_s": limits.max_life_s,
        "idle_s": limits.idle_s,
        "start_s": limits.start_s,
        "failed_s": limits.failed_s,
        "heartbeat_s": limits.heartbeat_s,
        "model": profile.model,
        "revision": profile.revision,
        "weights_uri": f"{weights}/{names.model_prefix(profile.model, profile.revision)}",
        "engine": profile.engine.vllm,
        "engine_uri": f"{weights}/{names.engine_prefix(engine_id(vm))}",
        "driver_branch": profile.engine.driver_branch,
        "driver_uri": f"{weights}/{names.driver_prefix(profile.engine.driver_branch)}",
    }


def engine_id(vm: VmSettings) -> str:
    """The engine that the profile's lock makes. RunError where there is no such lock."""
    engine = vm.profile.engine
    path = startup_archive.ROOT / "startup/locks" / engine.lock
    try:
        return names.engine_id(engine.vllm, path.read_bytes())
    except FileNotFoundError:
        raise pulumi.RunError(
            f"profiles/{vm.profile.name}.yaml: engine.lock: '{engine.lock}' is not in "
            f"startup/locks/.\n{NOTHING_DONE}"
        ) from None
