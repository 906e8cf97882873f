"""What a session stands on, brought there first where it lacks: foundation, subnets, weights."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mayfly import names
from mayfly.cloud import Cloud, CloudError
from mayfly.commands import seed
from mayfly.config import DEFAULT_REGION
from mayfly.engine import Engine
from mayfly.errors import FailedError
from mayfly.profile import Profile
from mayfly.project import Project

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The foundation as it is. outputs: {} where it was never brought up.

    located: the region that Google says the weights' bucket is in; "" for none or several.
    """

    project: Project
    engine: Engine
    cloud: Cloud
    stack: str
    outputs: dict[str, Any] = field(default_factory=dict)
    located: str = ""

    @property
    def there(self) -> list[str]:
        """Regions that have a subnet; without a foundation those that it would have."""
        if self.outputs:
            return list(self.outputs["subnets"])
        written = self.project.config(self.stack).get("mayfly:regions")
        return [str(r) for r in written] if isinstance(written, list) else [DEFAULT_REGION]

    @property
    def home(self) -> str:
        """The region of the weights."""
        return self.located or str(self.outputs["regions"][0]) if self.outputs else self.there[0]

    def lacks(self, regions: Sequence[str]) -> list[str]:
        return [region for region in regions if region not in self.there]

    def has_weights(self, profile: Profile) -> bool:
        """Whether the manifest, which a seed writes last, is in the bucket."""
        if not self.outputs:
            return False
        prefix = names.model_prefix(profile.model, profile.revision)
        bucket = str(self.outputs["weights_bucket"])
        return self.cloud.storage.get(bucket, f"{prefix}/{names.MANIFEST}") is not None

    def missing(self, profile: Profile, regions: Sequence[str]) -> list[str]:
        """What `prepare` would do, for people."""
        lacks = self.lacks(regions)
        found = []
        if not self.outputs:
            found.append(f"bring up the foundation, stack {self.stack}")
        if lacks:
            found.append(f"add a subnet in {', '.join(lacks)} to the foundation")
        if not self.has_weights(profile):
            size = f"{profile.size_gb:,.0f} GB"
            found.append(f"seed {profile.name}: {size} from the hub into the bucket")
        return found

    def prepare(self, profile: Profile, regions: Sequence[str], tell: Tell) -> None:
        """Do what `missing` says. FailedError where a part fails."""
        lacks = self.lacks(regions)
        if lacks or not self.outputs:
            self._bring_up(lacks, tell)
        if not self.has_weights(profile):
            seed.bring(self.project, self.engine, profile.name, stack=names.SEED)

    def _bring_up(self, lacks: Sequence[str], tell: Tell) -> None:
        if self.stack not in self.engine.stacks():
            self.engine.run("stack", "init", self.stack)
        written = self.project.config(self.stack)
        wanted = {"mayfly:layer": names.FOUNDATION} | project_key(self.cloud.project)
        wanted = {key: value for key, value in wanted.items() if written.get(key) != value}
        if wanted:
            self.engine.set_config(self.stack, wanted)
        for number, region in enumerate([*self.there, *lacks]):
            key = f"mayfly:regions[{number}]"
            if lacks:
                self.engine.run("config", "set", "--path", key, region, "--stack", self.stack)
        status, _ = self.engine.up(self.stack, tell)
        if status:
            raise FailedError(
                f"The foundation, stack {self.stack}, did not come up.",
                "No GPU was asked for. Pulumi's own words are above.",
                f"Try: what they say, then: pulumi up --stack {self.stack}",
            )
        self.outputs.update(self.engine.outputs(self.stack))


def project_key(google_project: str) -> dict[str, str]:
    """`gcp:project` where only a file can say it: a shell's own must not stay in a tracked one."""
    if any(os.environ.get(variable) for variable in names.PROJECT_VARIABLES):
        return {}
    return {"gcp:project": google_project}


def survey(project: Project, engine: Engine, cloud: Cloud, stack: str) -> Ground:
    """Look what is there."""
    known = engine.outputs(stack) if stack in engine.stacks() else {}
    complete = {"subnets", "regions", "weights_bucket", "state_bucket"} <= set(known)
    return Ground(
        project=project,
        engine=engine,
        cloud=cloud,
        stack=stack,
        outputs=known if complete else {},
        located=located(cloud, str(known["weights_bucket"])) if complete else "",
    )


def located(cloud: Cloud, name: str) -> str:
    """A bucket's region; "" where it has several, or Google does not say: not all may read it."""
    try:
        bucket = cloud.storage.bucket(name) or {}
    except CloudError:
        return ""
    regional = bucket.get("locationType", "region") == "region"
    return str(bucket.get("location", "")).lower() if regional else ""
