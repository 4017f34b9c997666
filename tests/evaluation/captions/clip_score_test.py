"""CLIPScore by hand, and its prefix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import eight_samples
from torch import Tensor

from diptych.capabilities.folder import write_model
from diptych.core.errors import DataError, MissingVerb, NotANumber
from diptych.core.seeding import seed_everything
from diptych.evaluation.captions.clip_score import checked_judge, clip_scores, judge_from
from diptych.models.contrastive import clip

VECTORS = {
    "picture": [0.6, 0.8], "A photo depicts fits": [0.8, 0.6], "A photo depicts not": [-0.6, -0.8],
    "A photo depicts said": [1.0, 0.0], "A photo depicts said too": [0.0, 1.0],
}  # fmt: skip


class Judge:
    """Knows a vector for every picture and every text."""

    name = "judge"
    VERBS = ("encode_image", "encode_text")
    READS_TEXT = True

    def encode_text(self, texts: Sequence[Any]) -> Tensor:
        return torch.tensor([VECTORS[text] for text in texts])

    encode_image = encode_text


def test_by_hand() -> None:
    clip_N, both_N = clip_scores(Judge(), ["picture"] * 2, ["fits", "not"], [["said", "said too"], ["said"]])
    assert clip_N.tolist() == pytest.approx([2.5 * 0.96, 0.0])
    assert both_N.tolist() == pytest.approx([2 * 2.4 * 0.8 / (2.4 + 0.8), 0.0])


def test_a_judge_comes_from_a_folder_and_scores_pictures(tmp_path: Path) -> None:
    samples = eight_samples()
    seed_everything("judge", 0)
    predictor = next(iter(clip.tiny_tasks(samples).values())).predictor()
    predictor.module.eval()
    write_model(predictor, tmp_path)
    judge = judge_from(str(tmp_path))
    images, said = [sample.image for sample in samples], [list(sample.texts) for sample in samples]
    clip_N, both_N = clip_scores(judge, images, [texts[0] for texts in said], said)
    texts_ND = predictor.encode_text([f"A photo depicts {texts[0]}" for texts in said])
    cosine_N = (predictor.encode_image(images) * texts_ND).sum(-1)
    assert clip_N.tolist() == pytest.approx((2.5 * cosine_N.clamp(min=0)).tolist(), abs=1e-5)
    # Each caption is a reference, so its nearest one is itself.
    assert both_N.tolist() == pytest.approx([2 * c / (c + 1) for c in clip_N.tolist()], abs=1e-5)


def test_references_are_counted_apart() -> None:
    said = [["said too"], ["said", "said too"], ["said"]]
    _, both_N = clip_scores(Judge(), ["picture"] * 3, ["fits"] * 3, said)
    assert both_N.tolist() == pytest.approx([2 * 2.4 * s / (2.4 + s) for s in (0.6, 0.8, 0.8)])


def test_bad_input_and_bad_judges() -> None:
    with pytest.raises(DataError, match="1 pictures, 2 captions and 1 lists of references"):
        clip_scores(Judge(), ["picture"], ["fits", "not"], [["said"]])
    with pytest.raises(DataError, match="one reference or more"):
        clip_scores(Judge(), ["picture"], ["fits"], [[]])

    class Broken(Judge):
        def encode_image(self, visuals: Sequence[Any]) -> Tensor:
            return torch.full((len(visuals), 2), float("nan"))

    with pytest.raises(NotANumber, match="judge answers NaN"):
        clip_scores(Broken(), ["picture"], ["fits"], [["said"]])

    class Silent(Judge):
        VERBS = ("encode_image",)
        verbs = frozenset({"encode_image"})

    with pytest.raises(MissingVerb, match="judge has no verb 'encode_text'"):
        checked_judge(Silent())  # type: ignore[arg-type]
    assert checked_judge(Judge())  # type: ignore[arg-type]
