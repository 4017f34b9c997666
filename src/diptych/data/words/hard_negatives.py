"""Hard negatives: texts that share the words of a caption and are false of its picture.

Yuksekgonul et al. 2022, "When and why vision-language models behave like bags-of-words", arXiv 2210.01936: trained
with them (NegCLIP), a model has to hear the order of words. A source that knows what is in its pictures brings its own
(the scenes); for other data they are made from the caption by rule (`word_swaps.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from diptych.core.errors import unknown_name
from diptych.core.sample import Sample
from diptych.core.seeding import Draw
from diptych.data.words.word_swaps import RULES

KINDS = tuple(RULES)
"""Named as the scenes and their benchmark name them."""


def check_kinds(kinds: Iterable[str]) -> None:
    """Raises a ConfigError for a kind that nobody knows; the nearest is named."""
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("kind of hard negative", kind, KINDS)


def hard_negative(sample: Sample, caption: str, kinds: Sequence[str], draw: Draw | None) -> tuple[str, str | None]:
    """A caption of the sample and a hard negative of it, of one of the kinds.

    Args:
        sample: its `meta["negatives"]`, kind -> {"true", "false"}, goes before the rules; a caption comes with each.
        caption: true of the sample; what the rules change.
        draw: None for the first kind that gives something, without chance.

    Returns:
        the caption that the negative is of, and the negative; None where no kind gives one.
    """
    rng = np.random.default_rng(0) if draw is None else draw.rng("negative")
    order = range(len(kinds)) if draw is None else rng.permutation(len(kinds))
    known = sample.meta.get("negatives")
    for index in order:
        kind = kinds[int(index)]
        if isinstance(known, dict):
            if kind in known:
                return str(known[kind]["true"]), str(known[kind]["false"])
        elif changed := RULES[kind](caption, rng):
            return caption, changed
    return caption, None
