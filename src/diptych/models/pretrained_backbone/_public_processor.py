"""Samples as a public model's own rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from diptych.core.processor import BadSample, Field, Rows
from diptych.core.sample import Sample, Turn
from diptych.core.seeding import Draw
from diptych.core.visual import Image
from diptych.models.pretrained_backbone._public_reader import Reader
from diptych.models.pretrained_backbone._public_rows import PublicBatch, Row


class PublicProcessor:
    """Conversations, or captions that nobody asked for; pictures in the geometry of the model's own processor."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def layout(self) -> Mapping[str, Field]:
        """Nothing has a fixed size."""
        return {}

    def prepare(self, sample: Sample, draw: Draw | None, rows: Rows) -> Row:
        """Reads a sample.

        Raises:
            BadSample: no answer, pictures without a place, too long, a clip, or a picture that cannot be decoded.
            DataError: the chat template refuses it.
        """
        images = [visual for visual in sample.visuals if isinstance(visual, Image)]
        if len(images) < len(sample.visuals):
            raise BadSample(sample.key, "a clip in a conversation")
        return self.reader.read(_turns(sample, draw), images, sample.key)

    def collate(self, keys: tuple[str, ...], arrays: Mapping[str, Tensor], items: Sequence[Row]) -> PublicBatch:
        return PublicBatch(keys, tuple(items))


def _turns(sample: Sample, draw: Draw | None) -> list[Turn]:
    if sample.turns:
        return list(sample.turns)
    texts = [text for text in sample.texts if text.strip()]
    if not texts:
        raise BadSample(sample.key, "no conversation", "neither turns nor a caption")
    said = texts[0 if draw is None else int(draw.rng("caption").integers(len(texts)))]
    return [Turn("user", ""), Turn("assistant", said)]
