"""Where a worker thread's time goes: processors add seconds here, the loader collects them."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass
class Seconds(threading.local):
    """Seconds that this thread spent, since it started.

    Attributes:
        decode: from encoded bytes to pixels.
        augment: from pixels to a row of the batch: crop, resize, colour.
    """

    decode: float = 0.0
    augment: float = 0.0


spent = Seconds()
