"""Hidden patches: how much is hidden, against what it is measured, and models that read the caption or do not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError, DataError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data.pixels.cells import hidden_pixels
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmark import Records
from diptych.evaluation.benchmarks.masked_patches import Settings, run
from diptych.evaluation.masked.filled_pictures import Captioned, fill, hidden_cells, other_captions

SCENES = Scenes("test", 40, SceneConfig(size=32, min_objects=2))
SAMPLES = [SCENES[i] for i in range(len(SCENES))]


class MeanColour:
    """Fills in the mean colour of the visible cells, in whole numbers."""

    VERBS = ("fill_image",)
    name = "mean colour"

    def fill_image(self, visuals: Sequence[Image], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
        found = []
        for image, text, hidden in zip(visuals, texts, hidden_NRC, strict=True):
            assert image.pixels_HWC is not None
            where = hidden_pixels(hidden[None], *image.pixels_HWC.shape[:2])[0].numpy()
            filled = image.pixels_HWC.copy()
            if where.any():
                filled[where] = self.answer(image, text, where)[where]
            found.append(Image(pixels_HWC=filled))
        return found

    def answer(self, image: Image, text: str, where: Any) -> Any:
        assert image.pixels_HWC is not None
        colour = image.pixels_HWC[~where].mean(0).round().astype(np.uint8)
        return np.broadcast_to(colour, image.pixels_HWC.shape)


class Knows(MeanColour):
    """The picture itself, 10 off, where the caption is its own; 40 off otherwise."""

    def answer(self, image: Image, text: str, where: Any) -> Any:
        own = next(sample for sample in SAMPLES if sample.key == image.name).texts
        pixels = image.pixels_HWC.astype(int)  # type: ignore[union-attr]
        off = 10 if text in own else 40
        return np.where(pixels > 127, pixels - off, pixels + off).astype(np.uint8)


def test_errors_decibels_and_the_variance_explained_by_hand() -> None:
    records = Records(None, {})
    found = run(Knows(), SCENES, Settings(), records).metrics
    assert found["error"].value == pytest.approx((10 / 255) ** 2) and found["error"].unit == "number"
    assert found["error_other_caption"].value == pytest.approx((40 / 255) ** 2)
    assert found["error_gain"].value == pytest.approx((40**2 - 10**2) / 255**2)
    assert found["error_gain_standard_error"].value == pytest.approx(0, abs=1e-12)
    assert found["psnr"].value == pytest.approx(20 * np.log10(255 / 10))
    assert (found["own_caption_closer"].value, found["own_caption_closer"].chance) == (1.0, 0.5)
    flat = []
    for sample in SAMPLES:
        where = hidden_pixels(hidden_cells(sample.key, 8, 2, 0.6, 0)[None], 32, 32)[0].numpy()
        pixels = sample.image.pixels_HWC / 255  # type: ignore[operator]
        flat.append(np.square(pixels[where] - pixels[~where].mean(0)).mean())
    assert found["error_mean_colour"].value == pytest.approx(np.mean(flat))
    for name, off in (("", 10), ("_other_caption", 40)):
        explained = found[f"variance_explained{name}"]
        assert explained.value == pytest.approx(1 - (off / 255) ** 2 / np.mean(flat))
        assert explained.low <= explained.value <= explained.high  # type: ignore[operator]


def test_who_does_not_read_gains_nothing_and_explains_nothing() -> None:
    found = run(MeanColour(), SCENES, Settings(), Records(None, {})).metrics
    assert found["variance_explained"].value == pytest.approx(0, abs=5e-3)  # whole numbers for colours
    assert found["own_caption_closer"].value == 0.0 and found["own_caption_closer_expected"].value == 0.5
    assert (found["error_gain"].low, found["error_gain"].high, found["tie_rate"].value) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(("cells", "block", "share", "blocks"), [(8, 2, 0.6, 10), (8, 1, 0.6, 38), (7, 2, 0.5, 8)])
def test_whole_blocks_are_hidden_as_a_function_of_the_key(cells: int, block: int, share: float, blocks: int) -> None:
    hidden = [hidden_cells(f"k{i}", cells, block, share, 0) for i in range(200)]
    assert all(one.shape == (cells, cells) for one in hidden)
    side = -(-cells // block)
    for one in hidden:
        padded = torch.zeros(side * block, side * block, dtype=torch.bool)
        padded[:cells, :cells] = one
        by_block = padded.reshape(side, block, side, block).permute(0, 2, 1, 3).flatten(2)
        assert int(by_block.any(-1).sum()) == blocks
    assert torch.equal(hidden[0], hidden_cells("k0", cells, block, share, 0))
    assert not torch.equal(hidden[0], hidden_cells("k0", cells, block, share, 1))
    often = torch.stack(hidden).float().mean(0)
    assert float((often - blocks / side**2).abs().max()) < 0.15  # every place alike
    assert hidden_cells("k", 4, 1, 0.999, 0).sum() == 15 and hidden_cells("k", 4, 1, 0.001, 0).sum() == 1


def test_the_other_caption_is_of_a_scene_without_any_of_the_objects() -> None:
    by_text = {sample.texts[0]: sample for sample in SAMPLES}
    for sample, other in zip(SAMPLES, other_captions(SAMPLES, 0), strict=True):
        assert other is not None
        assert not set(by_text[other].meta["present"]) & set(sample.meta["present"])
    plain = [Sample(f"k{i}", texts=(text,)) for i, text in enumerate(("a dog", "a dog", "a cat"))]
    assert other_captions(plain, 0) == ["a cat", "a cat", "a dog"]
    assert other_captions(plain[:2], 0) == [None, None]


def test_the_report_gets_whole_hidden_and_filled_pictures() -> None:
    rows = run(Knows(), SCENES, Settings(examples=3), Records(None, {})).extras["pictures"]
    assert len(rows) == 3
    for row in rows:
        titles = [image["title"] for image in row["images"]]
        assert titles[:2] == ["picture", "hidden"] and titles[2] == f"with its own caption: {row['caption']}"
        assert titles[3].startswith("with another's: ")
        assert all(image["png"].startswith("data:image/png;base64,") for image in row["images"])
        assert len({image["png"] for image in row["images"]}) == 4
    assert run(Knows(), SCENES, Settings(examples=0), Records(None, {})).extras["pictures"] == []


def test_what_cannot_be_asked_is_counted_with_its_reason() -> None:
    class Picky(MeanColour):
        def fill_image(self, visuals: Sequence[Image], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
            if any(image.name == SAMPLES[3].key for image in visuals):
                raise BadSample("", "truncated image")
            return super().fill_image(visuals, texts, hidden_NRC)

    records = Records(None, {})
    found = run(Picky(), SCENES, Settings(), records).metrics
    assert records.done[SAMPLES[3].key].status == "truncated image" and found["error"].n == 39
    with pytest.raises(DataError, match="no two pictures with captions that differ"):
        run(MeanColour(), Scenes("test", 1), Settings(), Records(None, {}))
    for wrong in ({"share": 1.0}, {"share": 0.0}, {"block": 0}, {"block": 8}, {"cells": 1}):
        with pytest.raises(ConfigError, match="masked_patches"):
            Settings(**wrong)  # type: ignore[arg-type]


def test_an_interrupted_evaluation_goes_on(tmp_path: Any) -> None:
    class Impatient(Knows):
        calls = 0

        def fill_image(self, visuals: Sequence[Image], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
            Impatient.calls += 1
            if Impatient.calls > 4:
                raise KeyboardInterrupt
            return super().fill_image(visuals, texts, hidden_NRC)

    whole = run(Knows(), SCENES, Settings(), Records(None, {})).metrics
    with pytest.raises(KeyboardInterrupt):
        run(Impatient(), SCENES, Settings(), Records(tmp_path, {}))
    Impatient.calls = -10
    records = Records(tmp_path, {})
    assert len(records.done) == 32
    assert run(Impatient(), SCENES, Settings(), records).metrics == whole


def test_errors_are_over_hidden_cells_alone() -> None:
    class Bleeds(Knows):
        """Changes visible pixels too, which nobody measures."""

        def fill_image(self, visuals: Sequence[Image], texts: Sequence[str], hidden_NRC: Tensor) -> list[Image]:
            found = super().fill_image(visuals, texts, hidden_NRC)
            for one, hidden in zip(found, hidden_NRC, strict=True):
                if hidden.any():
                    one.pixels_HWC[~hidden_pixels(hidden[None], 32, 32)[0].numpy()] = 0  # type: ignore[index]
            return found

    asked = [Captioned(SAMPLES[0], SAMPLES[0].texts[0], "other", hidden_cells("a", 8, 2, 0.5, 0))]
    assert fill(Bleeds(), asked)[0].errors() == fill(Knows(), asked)[0].errors()
