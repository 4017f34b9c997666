"""Two captions of one picture as one text, for language models: the second sentence follows from the first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.core.sample import Sample
from diptych.data.derived.mapped import Mapped


@dataclass(frozen=True)
class CaptionPairs(Mapped):
    """Each text is a caption followed by the sample's next caption; a lone caption stays as it is."""

    CHANGE = "captions in pairs"

    def change(self, sample: Sample) -> Sample:
        captions = [text.strip().rstrip(".") for text in sample.texts if text.strip()]
        if len(captions) < 2:
            return sample
        following = [*captions[1:], captions[0]]
        pairs = (f"{first}. {second}." for first, second in zip(captions, following, strict=True))
        return replace(sample, texts=tuple(pairs))
