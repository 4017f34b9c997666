"""What became of the data: how many records were read, and how many were lost for which reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Loss:
    """Records lost for one reason, and their share of those read."""

    reason: str
    count: int
    share: float


@dataclass(frozen=True)
class Funnel:
    """One stage's data: read, kept and lost."""

    stage: str
    read: int
    kept: int
    lost: list[Loss]

    @property
    def kept_share(self) -> float:
        """Kept records as a share of those read."""
        return self.kept / self.read if self.read else 0.0


def funnels(data: Mapping[str, Any]) -> list[Funnel]:
    """Reads `data.json`: {stage: {"read": n, "bad": {reason: n}}}."""
    return [_funnel(stage, counts) for stage, counts in data.items()]


def _funnel(stage: str, counts: Mapping[str, Any]) -> Funnel:
    read, bad = int(counts["read"]), {str(reason): int(n) for reason, n in counts.get("bad", {}).items()}
    lost = [Loss(reason, n, n / read if read else 0.0) for reason, n in sorted(bad.items(), key=lambda item: -item[1])]
    return Funnel(stage, read, read - sum(bad.values()), lost)
