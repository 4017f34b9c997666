"""What every contrastive model on pairs can vary in training, without another model file.

Patch masking (FLIP: Li et al. 2022, "Scaling Language-Image Pre-training via Masking", arXiv 2212.00794) and captions
that several pictures of a batch share. None of it is there at inference.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from diptych.core.errors import ConfigError


@dataclass(frozen=True)
class Masking:
    """Which share of a picture's patches and of a caption's tokens a tower is not given in training.

    What is masked is dropped before the tower and costs nothing; class tokens, and a text's start and end, stay.

    Attributes:
        image: of the patches, from 0 to less than 1; floor(P (1 - image)) of P patches stay.
        text: of the tokens between start and end, from 0 to less than 1; at least one stays.
        padding_first: whether `text` is a share of the longest text there can be, whose padding goes first: short
            texts then lose nothing, and long ones what does not fit.
    """

    image: float = 0.0
    text: float = 0.0
    padding_first: bool = False

    def __post_init__(self) -> None:
        for side, ratio, of in (("image", self.image, "patches"), ("text", self.text, "tokens")):
            if not 0 <= ratio < 1:
                raise ConfigError(
                    f"masking.{side} {ratio} is no share of {of} that can be dropped: give 0 (none) to less than 1"
                )


@dataclass(frozen=True)
class PairOptions:
    """Options of a contrastive task.

    Attributes:
        masking: what is dropped before the towers.
        same_text: whether pictures of a batch with the same caption are positives of one another's captions, instead
            of negatives (StableRep's loss). That changes something only where equal captions have different vectors,
            as with `masking.text`: of equal vectors the loss, summed over the batch, is InfoNCE.
    """

    masking: Masking = field(default_factory=Masking)
    same_text: bool = False
