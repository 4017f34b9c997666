"""How recipes measure answers, and the controls beside them."""

from __future__ import annotations

from typing import Any

import pytest

from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling
from diptych.data.derived.subset import Subset
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.recipes._answer_rates import Shown, answered

SOURCE = Subset(Scenes("test", config=SceneConfig(32, 1)), range(20))


def shows(image: Any) -> bytes:
    """A picture's content."""
    return bytes(image.pixels_HWC.tobytes() if image.encoded is None else image.encoded)


class Knows:
    """Answers a question from its own picture alone, and never without one."""

    def __init__(self) -> None:
        samples: list[Sample] = [SOURCE[index] for index in range(20)]
        self._answers = {(shows(one.image), one.turns[0].text): one.turns[1].text for one in samples}

    def answer(self, images: list[Any], questions: list[str]) -> list[str]:
        return [self._answers.get((shows(image), asked), "?") for image, asked in zip(images, questions, strict=True)]

    def generate_text(self, prompts: list[list[Any]], sampling: TextSampling) -> list[str]:
        assert all(len(prompt) == 1 and isinstance(prompt[0], str) for prompt in prompts)
        return ["?"] * len(prompts)


@pytest.mark.parametrize(("shown", "share"), [("own", 1.0), ("withheld", 0.0), ("swapped", 0.0)])
def test_controls_show_nothing_or_another_picture(shown: Shown, share: float) -> None:
    assert answered(Knows(), SOURCE, 20, shown) == share  # type: ignore[arg-type]
