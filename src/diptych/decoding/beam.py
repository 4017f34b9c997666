"""Beam search: likely texts, found by keeping a few beginnings of each row.

N rows, W beams of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diptych.core.sampling import TextSampling
from diptych.decoding.decoder import Decoder


@dataclass
class _Beams:
    """What is kept of one row.

    Attributes:
        most: the longest text, its end token counted.
        open: tokens and log-probability of each beginning.
        ended: rank and tokens of each finished text.
    """

    sampling: TextSampling
    most: int
    open: list[tuple[list[int], float]] = field(default_factory=lambda: [([], 0.0)])
    ended: list[tuple[float, list[int]]] = field(default_factory=list)

    def step(self, chances_WV: Tensor, ends: Collection[int]) -> list[tuple[int, int]]:
        """Goes one token further; which beginning each new one goes on from, and with which token.

        Args:
            chances_WV: log-probabilities of the next token of each open beginning.
        """
        width, begun = self.sampling.beams, self.open
        sums_WV = chances_WV + torch.tensor([score for _, score in begun], dtype=torch.float64)[:, None]
        best = sums_WV.flatten().topk(min((1 + len(ends)) * width, sums_WV.numel()))
        self.open, sources = [], []
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            source, token = divmod(place, chances_WV.shape[1])
            if score == -torch.inf or len(self.open) == width:
                break
            text = begun[source][0]
            if token in ends:
                self.ended.append((self._rank(score, len(text) + 1), text))
            else:
                self.open.append(([*text, token], score))
                sources.append((source, token))
        if self._settled():
            return []
        return sources

    def _rank(self, score: float, length: int) -> float:
        return score / float(length**self.sampling.length_penalty)

    def _settled(self) -> bool:
        """Whether the row is done: at its limit, or no beginning can pass the worst of the texts that would be kept.

        A sum of logarithms only falls, and no text is longer than the limit, by which it would be divided at most.
        """
        if self.open and len(self.open[0][0]) >= self.most:
            return True
        if len(self.ended) < self.sampling.beams or not self.open:
            return False
        worst = sorted(rank for rank, _ in self.ended)[-self.sampling.beams]
        return self._rank(self.open[0][1], self.most) <= worst

    def best(self) -> list[int]:
        """The text of the highest rank; a beginning that was cut at the limit counts as it stands."""
        cut = [(self._rank(score, len(text)), text) for text, score in self.open if text]
        return max([*self.ended, *cut], key=lambda one: one[0], default=(0.0, []))[1]


@torch.inference_mode()
def beam_search(
    decoder: Decoder, rooms: Sequence[int], sampling: TextSampling, ends: Collection[int]
) -> list[list[int]]:
    """The best text found for each row, without its end token.

    Texts are ranked by log p / length ** length_penalty, the end token counted. A row is searched until it has `beams`
    finished texts and no beginning could pass the worst of them.

    Args:
        decoder: has read the prompts.
        rooms: for how many tokens each row has room.
        ends: tokens that end a text.
    """
    beams = [_Beams(sampling, min(sampling.max_tokens, room)) for room in rooms]
    searched, tokens_N = list(beams), None
    while searched:
        logits_NV = decoder.next_logits(tokens_N)
        chances_NV = logits_NV.double().log_softmax(-1).cpu()
        sources: list[tuple[int, int]] = []
        left, begin = [], 0
        for one in searched:
            width = len(one.open)
            gone_on = one.step(chances_NV[begin : begin + width], ends)
            sources += [(begin + source, token) for source, token in gone_on]
            left += [one] if gone_on else []
            begin += width
        searched = left
        if searched:
            rows_N, tokens_N = torch.tensor(sources, device=logits_NV.device).unbind(1)
            decoder.select(rows_N)
    return [one.best() for one in beams]
