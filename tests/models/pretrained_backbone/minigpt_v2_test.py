"""MiniGPT-v2: features side by side, how it is asked, and where it points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diptych.capabilities.generator import GREEDY
from diptych.core.errors import ConfigError, DiptychError
from diptych.core.sample import Turn
from diptych.core.sampling import TextSampling
from diptych.core.visual import Box, Image
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.pixels.views import Views
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.chat import PlainTemplate
from diptych.models.pretrained_backbone import minigpt_v2
from diptych.models.pretrained_backbone._prefixed import Trained

SOURCE = Scenes("train", 8, SceneConfig(32, 1, words=0.0))


def tiny() -> minigpt_v2.MiniGptV2Task:
    torch.manual_seed(0)
    return minigpt_v2.tiny_tasks([SOURCE[index] for index in range(8)])["lora"]


class Told(minigpt_v2.MiniGptV2Predictor):
    """Says what it is told to say, and keeps what it was asked."""

    def say(self, *texts: str) -> None:
        self.texts, self.heard = texts, list[Any]()

    def generate_text(self, prompts: Sequence[Any], sampling: TextSampling = GREEDY, seeds: Any = 0) -> Any:
        self.heard += [list(prompt) for prompt in prompts]
        return list(self.texts[: len(prompts)])


def told(*texts: str) -> Told:
    made = tiny().predictor()
    model = Told(made.config, made.processor, made.module, made.name)
    model.say(*texts)
    return model


def test_four_features_that_follow_one_another_are_one_vector() -> None:
    """In raster order: of a grid of 4 x 4 each vector is a row, which is no square of 2 x 2; nothing is lost."""
    model = tiny().model
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features_NSC = model.tower(pixels)
    assert features_NSC.shape == (2, 16, 32)
    grid_NHWC = features_NSC.unflatten(1, (4, 4))
    wanted = torch.stack([model.connector.map(grid_NHWC[:, row].flatten(1)) for row in range(4)], dim=1)
    torch.testing.assert_close(model.see(pixels), wanted)
    seen = torch.autograd.functional.jacobian(lambda x: model.connector(x)[0, 1], features_NSC[:1].detach())
    touched_S = seen.abs().sum((0, 1, 3)) > 0
    assert touched_S.nonzero().flatten().tolist() == [4, 5, 6, 7]


def test_the_template_is_the_papers() -> None:
    made = minigpt_v2.template("</s>")
    turns = [Turn("user", "<image>\n[vqa] what is this?"), Turn("assistant", "a cat"), Turn("user", "sure?")]
    assert made.render(turns, opens=True) == (
        "[INST] <Img><image></Img> [vqa] what is this? [/INST] a cat</s>[INST] sure? [/INST]"
    )
    assert PlainTemplate().render(turns[:1], opens=False) == "USER: <image>\n[vqa] what is this? "
    with pytest.raises(ConfigError, match="one place"):
        PlainTemplate(picture="<Img></Img>")


def test_questions_are_asked_behind_their_task() -> None:
    model = told("two", "two")
    image = SOURCE[0].image
    model.answer([image, image], ["how many?", "[identify] {<1><2><3><4>}"])
    assert [prompt[1] for prompt in model.heard] == ["[vqa] how many?", "[identify] {<1><2><3><4>}"]
    real = tiny().predictor()
    chosen = real.answer([image], ["how many?"], [["one", "two"]])
    chances = real.text_likelihood([image] * 2, ["[vqa] how many?"] * 2, ["one", "two"])
    assert chosen == [["one", "two"][int(chances.log_N.argmax())]]


def test_boxes_are_in_pixels_of_the_picture_as_it_was_given() -> None:
    image = Image(pixels_HWC=np.zeros((50, 200, 3), np.uint8))
    said = ["{<0><10><50><100>}", "it is {<9><9><3><3>} or {<25><20><75><40>}", "{<0><0><50><101>}", "a cat"]
    model = told(*said)
    assert model.locate([image] * 4, ["cat", "dog", "cow", "hen"]) == [
        Box(0, 5, 100, 50, "cat"), Box(50, 10, 150, 20, "dog"), None, None,
    ]  # fmt: skip
    assert [prompt[1] for prompt in model.heard] == ["[refer] cat", "[refer] dog", "[refer] cow", "[refer] hen"]
    with pytest.raises(DiptychError, match="one text a visual"):
        model.locate([image], ["cat", "dog"])


@pytest.mark.parametrize("changes", [{"resize": "shorter_crop"}, {"views": Views()}])
def test_pictures_that_are_cut_or_moved_are_refused(changes: dict[str, Any]) -> None:
    task = tiny()
    made = task.processor
    settings = replace(made.config, image=replace(made.config.image, **changes))
    processor = ConversationProcessor(settings, made.tokenizer, made.template)
    with pytest.raises(ConfigError, match=r"image\.resize to squash"):
        minigpt_v2.MiniGptV2Task(task.config, processor, task.model.tower, task.model.language, Trained(language=True))
