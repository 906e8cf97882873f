"""`leases/<session>.watch` in the state bucket: while somebody renews it, the reaper leaves a stack
whose VM is gone alone, and `mayfly connect` waits for the next VM.
"""

import json
import math
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType

from mayfly import idle, names, vms
from mayfly.cloud import Blob, Cloud
from mayfly.errors import FailedError, RefusedError

RENEW_S = idle.WATCH_S / 3
JOIN_S = 10.0


def held(cloud: Cloud, bucket: str, session: str) -> idle.Lease | None:
    """The session's watch, if somebody renews it."""
    return fresh(vms.lease_object(cloud, bucket, names.watch(session)))


def fresh(blob: Blob | None) -> idle.Lease | None:
    found = idle.parse_lease(blob.data) if blob is not None else None
    return found if found is not None and found.is_fresh(time.time()) else None


class Watch:
    """Renews the object as long as it is entered; it is gone afterwards.

    by: who asks. tell: for what a person must know. lost: somebody else has written it since.
    instead: the command for whom somebody else's watch refuses.
    """

    def __init__(self, cloud: Cloud, bucket: str, session: str, by: str) -> None:
        self._cloud, self._bucket, self._session, self._by = cloud, bucket, session, by
        self._generation, self._mutex, self._id = 0, threading.Lock(), uuid.uuid4().hex
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self.lost = False
        self.tell: Callable[[str], None] = lambda _: None
        self.instead = f"mayfly connect {session}"

    def __enter__(self) -> "Watch":
        """RefusedError where somebody watches already."""
        blob = vms.lease_object(self._cloud, self._bucket, names.watch(self._session))
        self._generation = blob.generation if blob is not None else 0
        there = fresh(blob)
        if there is not None or not self._write():
            raise RefusedError(
                f"{there.by if there else 'Somebody'} watches {self._session} already.",
                "Nothing was created; two watches would bring up two VMs.",
                f"Try: {self.instead}; a watch that died is over after {idle.WATCH_S / 60:.0f} min",
            )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(JOIN_S)
        if not self.lost:
            try:
                if not self._delete() and self._found_ours():
                    self._delete()
            except FailedError as failed:
                self.tell(f"the watch is left behind, and over in some minutes: {failed.what}")

    def _renew(self) -> None:
        while not self._over.wait(RENEW_S):
            if not self.renewed():
                return

    def renewed(self) -> bool:
        """Renew it now; False once somebody else has written it or taken it away."""
        with self._mutex:
            try:
                self.lost = self.lost or not self._write()
            except FailedError as error:  # the next minute may be better; else it goes stale
                self.tell(f"the watch could not be renewed: {error.what}")
            return not self.lost

    def _write(self) -> bool:
        """False where somebody else's, or none, is there.

        A write whose answer was lost went through all the same: what then lies there is ours.
        """
        written = self._put()
        if written is None and self._found_ours():
            written = self._put()
        self._generation = self._generation if written is None else written
        return written is not None

    def _put(self) -> int | None:
        until = idle.rfc3339(math.ceil(time.time() + idle.WATCH_S))
        return self._cloud.storage.put(
            self._bucket,
            names.watch(self._session),
            json.dumps({"until": until, "by": self._by, "id": self._id}).encode(),
            if_generation_match=self._generation,
        )

    def _delete(self) -> bool:
        return self._cloud.storage.delete(
            self._bucket, names.watch(self._session), if_generation_match=self._generation
        )

    def _found_ours(self) -> bool:
        """Whether this watch wrote what is there; its generation is known from then on."""
        blob = vms.lease_object(self._cloud, self._bucket, names.watch(self._session))
        if blob is None or self._id not in blob.data.decode(errors="replace"):
            return False
        self._generation = blob.generation
        return True
