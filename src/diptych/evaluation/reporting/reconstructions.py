"""Pictures beside what a model makes of them.

A result's `extras["reconstructions"]` is a list of
    {"key": the sample's, "picture", "reconstruction": `data:` addresses of pictures of one size, "psnr": decibels}
from the best to the worst.
"""

from __future__ import annotations

from dataclasses import dataclass

from diptych.core.records.results import Result

MOST = 12
_SAFE = "data:image/png;base64,"


@dataclass(frozen=True)
class Pair:
    """A picture as the model sees it, and its reconstruction."""

    key: str
    picture: str
    reconstruction: str
    psnr: float


def reconstructions(result: Result) -> list[Pair]:
    """The pairs of a result; none where it has none. An address that is no picture is left out of the page."""
    found = [
        Pair(str(one["key"]), str(one["picture"]), str(one["reconstruction"]), float(one["psnr"]))
        for one in result.extras.get("reconstructions") or []
    ]
    return [pair for pair in found if pair.picture.startswith(_SAFE) and pair.reconstruction.startswith(_SAFE)][:MOST]
