"""How weights are loaded, as the command line has it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class LoadConfig:
    load_format: str = "auto"
    model_loader_extra_config: dict[str, Any] = field(default_factory=dict)
    safetensors_load_strategy: str | None = None
    use_tqdm_on_load: bool = True
