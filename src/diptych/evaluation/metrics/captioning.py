"""BLEU, ROUGE-L and CIDEr-D of captions, equal to the COCO server's (tylin/coco-caption, pycocoevalcap).

R candidates, N pictures, 4 orders of n-grams.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.core.errors import DataError
from diptych.evaluation.metrics.caption_bleu import bleu, bleu_counts
from diptych.evaluation.metrics.caption_cider import cider
from diptych.evaluation.metrics.caption_grams import gram_counts, lengths_of
from diptych.evaluation.metrics.caption_references import References
from diptych.evaluation.metrics.caption_rouge import rouge_l
from diptych.evaluation.metrics.ptb_tokenizer import ptb_tokens

Tokenize = Callable[[str], Sequence[str]]
BLEU_NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")


@dataclass(frozen=True)
class CaptionValues:
    """What each candidate got.

    Attributes:
        bleu_counts_R10: what BLEU is computed from, a row each (caption_bleu.BleuCounts): BLEU of a corpus is that of
            the sum of its rows, not the mean over candidates.
        rouge_l_R: 0 to 1.
        cider_R: 0 to 10.
    """

    bleu_counts_R10: NDArray[np.float64]
    rouge_l_R: NDArray[np.float64]
    cider_R: NDArray[np.float64]

    def each(self) -> dict[str, NDArray[np.float64]]:
        """Every metric of each candidate [R]; its BLEU is that of a corpus of one."""
        bleu_R4 = bleu(self.bleu_counts_R10)
        return dict(zip(BLEU_NAMES, bleu_R4.T, strict=True)) | {"rouge_l": self.rouge_l_R, "cider": self.cider_R}

    def whole(self) -> dict[str, float]:
        """Every metric of the corpus."""
        (bleu_4,) = bleu(self.bleu_counts_R10.sum(0, keepdims=True)).tolist()
        means = {"rouge_l": float(self.rouge_l_R.mean()), "cider": float(self.cider_R.mean())}
        return dict(zip(BLEU_NAMES, bleu_4, strict=True)) | means


class CaptionScorer:
    """Scores captions of pictures whose references are known; document frequencies are those of all references.

    Args:
        references: of every picture, one or more each.
        tokenize: a text -> its tokens.

    Raises:
        DataError: there is no picture, or one has no reference.
    """

    def __init__(self, references: Sequence[Sequence[str]], tokenize: Tokenize = ptb_tokens) -> None:
        self.tokenize = tokenize
        self._references = References([[tokenize(text) for text in texts] for texts in references])
        if len(self._references) == 1:
            warnings.warn(
                "CIDEr of one picture is 0 whatever the caption: an n-gram counts by how few pictures it is said of, "
                "and here each is said of all",
                stacklevel=2,
            )

    def values(self, candidates: Sequence[str], pictures: Sequence[int] | None = None) -> CaptionValues:
        """What candidates get.

        Args:
            pictures: the position of each candidate's picture, none twice; None for all of them in order.

        Raises:
            DataError: not one candidate a picture.
        """
        chosen = range(len(self._references)) if pictures is None else pictures
        if len(candidates) != len(chosen) or len(set(chosen)) < len(chosen):
            raise DataError(f"{len(candidates)} candidates for {len(set(chosen))} pictures: give one caption a picture")
        tokens = [self.tokenize(text) for text in candidates]
        picture_R, length_R, grams = np.array(chosen, np.int64), lengths_of(tokens), list(gram_counts(tokens))
        said = [self._references.tokens[picture] for picture in chosen]
        return CaptionValues(
            bleu_counts(self._references, picture_R, length_R, grams).columns(),
            np.array([rouge_l(*pair) for pair in zip(tokens, said, strict=True)], np.float64),
            cider(self._references, picture_R, length_R, grams),
        )


def caption_scores(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenize = ptb_tokens
) -> dict[str, float]:
    """`bleu_1` to `bleu_4`, `rouge_l` (0 to 1) and `cider` (0 to 10) of a corpus.

    Args:
        candidates: a caption a picture. An empty one gets 0.
        references: of every picture, one or more each.
        tokenize: a text -> its tokens; that of the COCO server when left out. `str.split` for texts that are tokenized.

    Raises:
        DataError: not one candidate a picture, or a picture without references.
    """
    return CaptionScorer(references, tokenize).values(candidates).whole()


def caption_values(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenize = ptb_tokens
) -> dict[str, NDArray[np.float64]]:
    """The same of each caption [N], as in `caption_scores`; BLEU of one caption is that of a corpus of one."""
    return CaptionScorer(references, tokenize).values(candidates).each()
