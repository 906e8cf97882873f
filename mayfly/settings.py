"""A stack's configuration, parsed once into a frozen dataclass; nobody re-checks it after that.

Plain text in, plain values out: no Pulumi here, so that the desk and the tests parse exactly as
the program does. All times are seconds, all money US dollars.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mayfly import names, profile
from mayfly.config import KEYS, SESSION_NAME, Config, remedy
from mayfly.fit import FitError
from mayfly.idle import Limits
from mayfly.machines import (
    ALL_ZONES,
    GPU_MACHINES,
    MACHINES,
    REGIONS,
    SEEDING_MACHINES,
    alone,
    region_of,
)
from mayfly.problems import NOTHING_DONE, ConfigError, Problem, one_of
from mayfly.profile import Profile

__all__ = [
    "KEYS",
    "NOTHING_DONE",
    "ConfigError",
    "FoundationSettings",
    "Limits",
    "Problem",
    "Rate",
    "SeedSettings",
    "SessionSettings",
    "Settings",
    "VmSettings",
    "parse",
]

_IMAGES = "projects/{}/global/images/family/{}"
DEFAULT_IMAGE = {
    names.SESSION: _IMAGES.format(
        "ubuntu-os-accelerator-images", "ubuntu-accelerator-2204-amd64-with-nvidia-580"
    ),
    names.SEED: _IMAGES.format("ubuntu-os-cloud", "ubuntu-2204-lts"),
}

# GPUs are worth a preemption; half an hour of a CPU VM is not worth a second try.
DEFAULT_PROVISIONING = {names.SESSION: "spot", names.SEED: "on-demand"}
DAY_S = 86_400
SHORTEST_LIFE_S = 30
LONGEST_LIFE_S = {"spot": 120 * DAY_S, "flex-start": 7 * DAY_S, "on-demand": 120 * DAY_S}
"""What Google accepts as `maxRunDuration`."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What an hour costs, in dollars for the whole VM: never without source and date."""

    hourly_usd: float
    source: str
    date: str


@dataclass(frozen=True, kw_only=True)
class FoundationSettings:
    """What is made once a project. state_key: the KMS key behind the state's secrets, or "".

    hf_token_secret: id of an existing secret that holds the hub's token, or "".
    members: IAM members ("user:ann@example.com") who may tunnel, log in, keep a session and
    read the key.
    """

    project: str
    stack: str
    regions: tuple[str, ...]
    state_bucket: str
    members: tuple[str, ...]
    state_key: str
    hf_token_secret: str


@dataclass(frozen=True, kw_only=True)
class VmSettings:
    """What a seed and a session have in common. image: a path or a family's path."""

    layer: str
    project: str
    session: str
    profile: Profile
    zone: str
    machine: str
    provisioning: str
    limits: Limits
    rate: Rate
    image: str
    foundation: str
    state_bucket: str
    started_by: str
    allow_replace: bool

    @property
    def region(self) -> str:
        return region_of(self.zone)

    @property
    def vm_name(self) -> str:
        return names.vm(self.session)


@dataclass(frozen=True, kw_only=True)
class SeedSettings:
    """A CPU VM that brings a profile's weights, engine and driver into the buckets."""

    vm: VmSettings


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """A GPU VM that serves a profile. local_port: where `mayfly connect` listens.

    kernel_caches: keep what the engine compiles in the cache bucket, and take it from there.
    probe: the machine of which one rank is measured, in place of serving; "" serves.
    """

    vm: VmSettings
    mode: str
    probe: str
    local_port: int
    node_internet: bool
    kernel_caches: bool


Settings = FoundationSettings | SeedSettings | SessionSettings


def parse(raw: Mapping[str, str], *, stack: str, project: str | None) -> Settings:
    """The settings of `stack` from its `mayfly:` keys (given without the prefix).

    project: the Google Cloud project from `gcp:project` or the environment; None if neither.
    Raises ConfigError with every problem, before anything exists.
    """
    config = Config(raw)
    if not project:
        config.note_other("gcp:project", None, "Set it here or as GOOGLE_PROJECT.")
    layer = config.choice("layer", names.LAYERS)
    settings = _PARSERS[layer](config, stack, project or "") if layer else None
    config.close()
    if config.problems or settings is None:
        raise ConfigError(f"stack {stack}", config.problems, remedy(config.problems, stack))
    return settings


def _foundation(config: Config, stack: str, project: str) -> FoundationSettings:
    regions = config.texts("regions", least=1)
    for region in regions:
        if region not in REGIONS:
            config.note("regions", region, one_of(REGIONS))
    members = config.texts("members")
    for member in members:
        if member.partition(":")[0] not in ("user", "group", "serviceAccount", "domain"):
            config.note("members", member, "It must look like user:ann@example.com or group:...")
    return FoundationSettings(
        project=project,
        stack=stack,
        regions=regions,
        state_bucket=config.text("stateBucket") or names.bucket(project, "state"),
        members=members,
        state_key=config.text("stateKey"),
        hf_token_secret=config.text("hfTokenSecret"),
    )


def _seed(config: Config, stack: str, project: str) -> SeedSettings | None:
    vm = _vm(config, names.SEED, stack, project)
    return SeedSettings(vm=vm) if vm else None


def _session(config: Config, stack: str, project: str) -> SessionSettings | None:
    vm = _vm(config, names.SESSION, stack, project)
    probe = config.text("probe")
    offered = vm is not None and vm.machine and not probe
    modes = tuple(vm.profile.machines[vm.machine]) if vm and offered else profile.MODES
    mode, local_port = config.choice("mode", modes), config.port("localPort")
    node_internet, kernel_caches = config.flag("nodeInternet"), config.flag("kernelCaches")
    if vm is None:
        return None
    if probe and vm.machine and mode:
        _must_fit(config, vm.profile, probe, mode)
    return SessionSettings(
        vm=vm,
        mode=mode,
        probe=probe,
        local_port=local_port,
        node_internet=node_internet,
        kernel_caches=kernel_caches,
    )


def _must_fit(config: Config, chosen: Profile, probe: str, mode: str) -> None:
    """There is no rank of a deployment that cannot be."""
    try:
        chosen.choose(probe, mode)
    except FitError as error:
        config.note("probe", probe, f"{chosen.name} does not fit it: {error}.")


def _vm(config: Config, layer: str, stack: str, project: str) -> VmSettings | None:
    """None without a usable profile; the problems of all the rest are noted all the same."""
    if not names.is_session(stack):
        config.note_other(SESSION_NAME, stack, f"It must be {names.SESSION_RULE}.")
    chosen = _profile(config)
    machine = _machine(config, layer, chosen)
    sold_as = MACHINES[machine].provisioning if machine else tuple(names.PROVISIONING)
    provisioning = config.choice("provisioning", sold_as, DEFAULT_PROVISIONING[layer])
    rate = _rate(config)
    zone, limits = _zone(config, machine), _limits(config, provisioning, rate)
    allow_replace = config.flag("allowReplace")
    if chosen is None:
        return None
    return VmSettings(
        layer=layer,
        project=project,
        session=stack,
        profile=chosen,
        zone=zone,
        machine=machine,
        provisioning=provisioning,
        limits=limits,
        rate=rate,
        image=config.text("image") or DEFAULT_IMAGE[layer],
        foundation=config.text("foundationStack"),
        state_bucket=config.text("stateBucket") or names.bucket(project, "state"),
        started_by=config.text("startedBy"),
        allow_replace=allow_replace,
    )


def _profile(config: Config) -> Profile | None:
    name = config.choice("profile", profile.names())
    if not name:
        return None
    try:
        chosen = profile.load(name)
    except ConfigError as error:
        for problem in error.problems:
            config.note_other(f"{error.source}: {problem.key}", problem.value, problem.right)
        return None
    if not chosen.machines:
        config.note("profile", name, f"No machine holds it: see mayfly plan {name}.")
        return None
    return chosen


def _machine(config: Config, layer: str, chosen: Profile | None) -> str:
    """ "" after a problem, or where no profile says which would do."""
    if layer == names.SEED:
        return config.choice("machine", SEEDING_MACHINES, SEEDING_MACHINES[0])
    if config.text("probe"):
        return _machine_of_probe(config)
    if chosen is None:
        return ""
    return config.choice("machine", tuple(chosen.machines), chosen.default_machine)


def _machine_of_probe(config: Config) -> str:
    """One GPU of the kind that the probed machine has."""
    probed = config.choice("probe", GPU_MACHINES)
    valid = alone(MACHINES[probed]) if probed else ()
    if probed and not valid:
        config.note("probe", probed, "No machine is sold with one GPU of its kind.")
    return config.choice("machine", valid, valid[0]) if valid else ""


def _zone(config: Config, machine: str) -> str:
    zones = MACHINES[machine].zones if machine else ALL_ZONES
    return config.choice("zone", zones, zones[0])


def _rate(config: Config) -> Rate:
    """The price written at launch; a bare number would be believed long after it was wrong."""
    return Rate(
        hourly_usd=config.positive("hourlyUsd"),
        source=config.required("rateSource"),
        date=config.date("rateDate"),
    )


def _limits(config: Config, provisioning: str, rate: Rate) -> Limits:
    return Limits(
        idle_s=config.positive("idleMinutes") * 60,
        start_s=config.positive("startMinutes") * 60,
        failed_s=config.positive("failedMinutes") * 60,
        heartbeat_s=config.positive("heartbeatMinutes") * 60,
        max_life_s=_max_life_s(config, provisioning, rate),
    )


def _max_life_s(config: Config, provisioning: str, rate: Rate) -> int:
    """The life written at launch, else the smaller of `maxHours` and what `budgetUsd` buys."""
    hours = config.positive("maxHours")
    budget_usd = config.positive_or_none("budgetUsd")
    written = config.positive_or_none("maxRunSeconds")
    key = "maxHours"
    life_s = hours * 3600
    if budget_usd is not None and rate.hourly_usd:
        bought_s = budget_usd / rate.hourly_usd * 3600
        if bought_s < life_s:
            key, life_s = "budgetUsd", bought_s
    if written is not None:
        key, life_s = "maxRunSeconds", written
    longest_s = LONGEST_LIFE_S.get(provisioning, 120 * DAY_S)
    # Whole seconds, as they are sent, and never rounded up: a cap is a cap. Far too long is cut to
    # what is still refused and can be written down.
    whole_s = int(min(life_s, 1e12))
    if life_s and not SHORTEST_LIFE_S <= whole_s <= longest_s:
        right = f"That is a life of {whole_s} s; Google takes {SHORTEST_LIFE_S} to {longest_s}."
        config.note(key, config.shown(key), right)
    return whole_s


_PARSERS: Mapping[str, Callable[[Config, str, str], Settings | None]] = {
    names.FOUNDATION: _foundation,
    names.SEED: _seed,
    names.SESSION: _session,
}
