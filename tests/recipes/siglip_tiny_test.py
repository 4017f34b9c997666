"""The SigLIP recipe: padding that is read is made, when the tower is told to read it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diptych.data.batches.image_text import ImageTextConfig, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import Padding
from diptych.models.contrastive._options import PairOptions
from diptych.recipes.siglip_tiny import siglip_tiny


@pytest.mark.parametrize(("padding", "lengths"), [("ignored", [7, 3]), ("constant", [64, 64])])
def test_the_processor_pads_as_the_tower_reads(padding: Padding, lengths: list[int]) -> None:
    run = siglip_tiny()
    run = replace(run, model=replace(run.model, text=replace(run.model.text, padding=padding)))
    tokenizer = Tokenizer.fit(["a red one left of a blue one"] * 3, 512)
    task = run.task(ImageTextConfig(run.image, TextPreprocessing(64)), tokenizer, PairOptions())
    widths = [task.processor.tokens([text])[0].shape[1] for text in ("a red one of blue", "a")]
    assert widths == lengths
