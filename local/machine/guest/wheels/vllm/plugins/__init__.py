"""General plugins: what `vllm.general_plugins` entry points name is called, once a process."""

import logging
from importlib.metadata import entry_points

GROUP = "vllm.general_plugins"

logger = logging.getLogger(__name__)


def load_general_plugins() -> None:
    """One that cannot be imported is only logged; one that raises ends the process."""
    for plugin in entry_points(group=GROUP):
        try:
            function = plugin.load()
        except Exception:
            logger.exception("Failed to load plugin %s", plugin.name)
        else:
            function()
