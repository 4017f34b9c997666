"""Captions of other pictures, for pairs that do not match.

A model that learns to tell whether a text belongs to a picture is shown texts that do not. Drawing one from the batch
would make it depend on how the batch is cut and spread; here it comes from a pool of captions that was read once, as a
function of (seed, epoch, key) alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from diptych.core.errors import DataError
from diptych.core.seeding import Draw, hash_to_int, unit_interval

_TRIES = 20


class OtherCaptions:
    """A pool of captions.

    Args:
        texts: of any pictures, each as often as it is said of one: a caption must be as likely here as in pairs that
            match, or the text alone would tell which pairs do.

    Raises:
        DataError: fewer than two different captions, none of which could be of another picture.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text for text in texts if text.strip()]
        if (different := len(set(self._texts))) < 2:
            raise DataError(
                f"pairs that do not match need captions of other pictures: the data have {different} different one(s)"
            )

    def __len__(self) -> int:
        return len(self._texts)

    def draw(self, own: Collection[str], draw: Draw, probability: float) -> str | None:
        """A caption that is none of the sample's own, with this probability; else None.

        None too where so many of the pool are the sample's own that no other is found in a few tries.

        Args:
            own: the captions of the sample.
            draw: of the sample; another epoch is another draw.
        """
        where = (draw.seed, draw.epoch, draw.key)
        if unit_interval("mismatched", *where) >= probability:
            return None
        for attempt in range(_TRIES):
            text = self._texts[hash_to_int("other caption", *where, attempt) % len(self._texts)]
            if text not in own:
                return text
        return None
