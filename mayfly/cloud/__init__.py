"""The one door to Google. Nothing else in mayfly makes a call to it."""

from mayfly.cloud.door import Cloud, connect
from mayfly.cloud.errors import CloudError
from mayfly.cloud.storage import Blob

__all__ = ["Blob", "Cloud", "CloudError", "connect"]
