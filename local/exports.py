"""What a shell needs to speak to a local cloud, and the wrappers it finds first on its PATH."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The variable's middle word, and where the product's discovery documents are mounted.
ENDPOINTS = {
    "COMPUTE": "compute/beta/",
    "STORAGE": "storage/storage/v1/",
    "CLOUDFUNCTIONS2": "functions/v2beta/",
    "CLOUD_SCHEDULER": "scheduler/v1/",
    "CLOUD_RUN_V2": "run/v2/",
    "KMS": "kms/v1/",
    "SECRET_MANAGER": "secrets/v1/",
    "IAM_BETA": "iam/v1/",
    "RESOURCE_MANAGER": "crm/v1/",
    "CLOUD_BILLING": "cloudbilling/v1/",
    "BILLING_BUDGETS": "budgets/v1/",
    "CLOUD_QUOTAS": "quotas/v1beta/",
    "SERVICE_USAGE": "serviceusage/v1/",
}
PLUGINS = ("gcp", "command")
WAIT_SCALE = "0.02"  # the provider's fixed waits and polls, 10 s and more at Google, are 0.2 s here


def endpoints(api: str) -> dict[str, str]:
    """GOOGLE_*_CUSTOM_ENDPOINT for the REST fake at `api`."""
    return {f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{api}/{path}" for name, path in ENDPOINTS.items()}


def platform(api: str, hub: str) -> dict[str, str]:
    """What a function or a machine is given by its platform: where Google and the hub are."""
    return endpoints(api) | {"HF_ENDPOINT": hub}


def exports(
    directory: Path, *, api: str, hub: str, metadata: str, project: str, emulator: str, token: str
) -> dict[str, str]:
    """The variables of local.json, in the order in which they are printed.

    emulator: the door at which storage calls without a token are the user's.
    """
    return {
        "PATH": f"{directory / 'bin'}:$PATH",
        "PULUMI_HOME": str(directory / "pulumi"),
        "PULUMI_BACKEND_URL": f"gs://{project}-mayfly-state",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
        "GOOGLE_PROJECT": project,
        "GOOGLE_OAUTH_ACCESS_TOKEN": token,
        "GCE_METADATA_HOST": metadata,
        "BOTO_CONFIG": str(directory / "boto.cfg"),
        "MAYFLY_RELEASES": (directory / "releases").as_uri(),
        "STORAGE_EMULATOR_HOST": emulator.partition("://")[2],
    } | platform(api, hub)


def shell(variables: Mapping[str, str]) -> str:
    """`export NAME="value"` lines; the only reference that a shell will follow is $PATH."""
    lines = []
    for name, value in variables.items():
        text = value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
        parts = [p.replace("$", "\\$") for p in text.split("$PATH")]
        lines.append(f'export {name}="{"$PATH".join(parts)}"')
    return "\n".join(lines) + "\n"


def write_wrappers(
    directory: Path, *, plugins: bool, defaults: Mapping[str, str] | None = None
) -> None:
    """The stand-in gcloud and, if wanted, the provider stand-ins, as programs in directory/bin.

    defaults: what a wrapper sets where its caller did not: a shell that took over only some of
    the exports still reaches this local cloud, and no other.
    """
    bin_ = directory / "bin"
    bin_.mkdir(parents=True, exist_ok=True)
    _wrapper(bin_ / "gcloud", "local.machine.gcloud", {"MAYFLY_LOCAL_DIR": str(directory)})
    for name in PLUGINS if plugins else ():
        write_plugin(bin_ / f"pulumi-resource-{name}", name, defaults)


def write_plugin(target: Path, name: str, defaults: Mapping[str, str] | None = None) -> None:
    """A provider stand-in as one program."""
    _wrapper(target, f"local.provider.{name}", {"STANDIN_WAIT_SCALE": WAIT_SCALE}, defaults)


def _wrapper(
    target: Path, module: str, env: Mapping[str, str], defaults: Mapping[str, str] | None = None
) -> None:
    """-P and PYTHONPATH: the caller's folder may hold a package of the same name."""
    settings = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in env.items())
    for name, value in (defaults or {}).items():
        settings += f'[ -n "${{{name}-}}" ] || export {name}={shlex.quote(value)}\n'
    target.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(ROOT))}\n{settings}"
        f'exec {shlex.quote(sys.executable)} -P -m {module} "$@"\n'
    )
    target.chmod(0o755)


def write_engine(directory: Path, engine: Path, environment: Mapping[str, str]) -> None:
    """`pulumi` in directory/bin: the caller's own, or `engine`, with this environment around it.

    The rest of the shell keeps its own proxies and certificates.
    """
    here = directory / "bin"
    settings = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in environment.items())
    (here / "pulumi").write_text(
        f"#!/bin/sh\n{settings}here={shlex.quote(str(here))}\nkept=$IFS IFS=:\n"
        'for folder in $PATH; do\n  if [ "$folder" != "$here" ] && [ -x "$folder/pulumi" ]; then\n'
        '    IFS=$kept\n    exec "$folder/pulumi" "$@"\n  fi\ndone\nIFS=$kept\n'
        f'exec {shlex.quote(str(engine))} "$@"\n'
    )
    (here / "pulumi").chmod(0o755)


def write_boto(directory: Path, *, port: int, project: str) -> None:
    """gsutil's configuration: the https door, whose certificate nobody signed."""
    (directory / "boto.cfg").write_text(
        "[Credentials]\n"
        f"gs_host = 127.0.0.1\ngs_port = {port}\n"
        f"gs_json_host = 127.0.0.1\ngs_json_port = {port}\n"
        "[Boto]\nhttps_validate_certificates = False\n"
        f"[GSUtil]\ndefault_project_id = {project}\nstate_dir = {directory / 'gsutil'}\n"
    )
