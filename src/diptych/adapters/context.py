"""Learned context: vectors in the place of the words around a class name.

CoOp, Zhou et al. 2021, "Learning to Prompt for Vision-Language Models", arXiv 2109.01134: instead of "a photo of a
{class}", the text tower reads M learned vectors and the embedded class name,

    t = [v_1] [v_2] ... [v_M] [class]

with the class name at the end, in the middle or in front; the vectors are shared by all classes, or each class has its
own.

CoCoOp, Zhou et al. 2022, "Conditional Prompt Learning for Vision-Language Models", arXiv 2203.05557: a small network
makes of a picture's vector x one vector that is added to all of the context, v_m(x) = v_m + h(x).

B pictures, N texts, C classes, M context vectors, T tokens, S = T + M slots, D width, E width of the joint space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.layers.text_transformer import TextTransformer

Place = Literal["end", "middle", "front"]
INIT_STD = 0.02


@dataclass(frozen=True)
class ContextConfig:
    """The context of class names.

    Attributes:
        length: M, where no words are given.
        words: to start from ("a photo of a"), which say the length too; "" for N(0, 0.02).
        place: where the class name stands.
        class_specific: whether each class has a context of its own.
    """

    length: int = 16
    words: str = ""
    place: Place = "end"
    class_specific: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ConfigError(f"context.length {self.length}: give 1 or more context vectors")


class LearnedContext(nn.Module):
    """M vectors, or M for each class, in the text tower's space of embedded tokens.

    Args:
        head: how many start tokens a text has, 1 or 0.
        classes: how many contexts; 0 for one that all classes share.
        start_MD: where to start from; None for noise.
    """

    def __init__(
        self, config: ContextConfig, width: int, head: int = 1, classes: int = 0, start_MD: Tensor | None = None
    ) -> None:
        super().__init__()
        self.place: Place = config.place
        self.head = head
        start = INIT_STD * torch.randn(config.length, width) if start_MD is None else start_MD.detach().clone()
        self.vectors = nn.Parameter(start.repeat(classes, 1, 1) if classes else start)

    @property
    def length(self) -> int:
        """M."""
        return self.vectors.shape[-2]

    def forward(
        self, text: TextTransformer, tokens_NT: Tensor, lengths_N: Tensor, shift_ND: Tensor | None = None,
        classes_N: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The text tower's vectors [N, D] of texts with the context around them.

        Args:
            tokens_NT: control tokens included; padded to the tower's constant length where it reads padding.
            shift_ND: added to every vector of a text's context.
            classes_N: whose context each text has, where classes have their own.
        """
        vectors = self.vectors if classes_N is None else self.vectors[classes_N]
        context_NMD = vectors.expand(len(tokens_NT), -1, -1)
        if shift_ND is not None:
            context_NMD = context_NMD + shift_ND[:, None]
        before = {"end": self.length, "middle": self.length // 2, "front": 0}[self.place]
        slots_NS = slots(tokens_NT.shape[1], lengths_N, self.length, before, self.head)
        if text.config.padding == "constant":
            slots_NS = slots_NS[:, : tokens_NT.shape[1]]
        pool_NSD = torch.cat([text.embedding(tokens_NT), context_NMD], dim=1)
        words_NSD = pool_NSD.gather(1, slots_NS[..., None].expand(-1, -1, pool_NSD.shape[-1]))
        return text.forward_embedded(words_NSD, lengths_N + self.length)


def slots(tokens: int, lengths_N: Tensor, context: int, before: int, head: int) -> Tensor:
    """Which of [tokens, context vectors] stands in each slot of each row: int64 [N, tokens + context].

    A row reads: the start token, `before` context vectors, the name, the other context vectors, the end token, padding.

    Args:
        lengths_N: tokens of each text that are not padding.
        head: start tokens, 1 or 0.
    """
    slot_1S = torch.arange(tokens + context, device=lengths_N.device)[None]
    end_N1 = lengths_N[:, None] - 1  # the place of the end token before anything is inserted
    places_NS = slot_1S - context  # the end token and what follows
    places_NS = torch.where(slot_1S < end_N1 + context, tokens + slot_1S - end_N1, places_NS)
    places_NS = torch.where(slot_1S < end_N1 + before, slot_1S - before, places_NS)
    places_NS = torch.where(slot_1S < head + before, tokens + slot_1S - head, places_NS)
    return torch.where(slot_1S < head, slot_1S, places_NS)


class MetaNet(nn.Module):
    """CoCoOp's h: a picture's vector -> what is added to its context; Linear(E, E / 16)-ReLU-Linear(E / 16, D)."""

    def __init__(self, image_width: int, text_width: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(image_width // reduction, 1)
        self.down = nn.Linear(image_width, hidden)
        self.up = nn.Linear(hidden, text_width)

    def forward(self, image_BE: Tensor) -> Tensor:
        """[B, D]."""
        out: Tensor = self.up(self.down(image_BE).relu())
        return out
