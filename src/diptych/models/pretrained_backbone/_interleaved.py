"""Predictors of prompts in which pictures and texts alternate: few-shot examples, then the likelihood of a text.

N prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import Likelihood, Prompt
from diptych.capabilities.verbs import Verb
from diptych.data.words.chat import PlainTemplate
from diptych.models.pretrained_backbone._prefix_model import C, PrefixPredictor


def plain_template(end: str) -> PlainTemplate:
    """Pictures and texts as they follow one another, without names; an end token behind what was said."""
    return PlainTemplate(user="", assistant="", between="", end=end)


class InterleavedPredictor(PrefixPredictor[C], Generic[C]):
    """Reads examples first, pictures and texts in any order, and goes on."""

    def prompt_likelihood(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Likelihood:
        """log p(text i | prompt i of texts and pictures), summed over the text's tokens and what ends it.

        Raises:
            DiptychError: not one text a prompt, or more pictures in a prompt than the model takes.
            TextTooLong: prompt and text do not fit.
        """
        same_length(prompts, texts, Verb.PROMPT_LIKELIHOOD)
        return self._likelihood(prompts, texts)
