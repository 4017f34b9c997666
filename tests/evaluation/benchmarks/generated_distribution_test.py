"""Sets of made pictures: exact, blind and half-right painters, and features of folders that the user names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painters import Blind, HalfRight, Painter, ShortOfMemory
from torch import Tensor

from diptych.capabilities.folder import write_model
from diptych.core.discovery import models
from diptych.core.errors import CheckpointError, ConfigError, DataError, MissingVerb
from diptych.core.records.results import Result
from diptych.core.seeding import seed_everything
from diptych.data.pixels.tower_inputs import PREPROCESSOR
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.benchmarks import generated_distribution
from diptych.evaluation.generation.feature_network import FeatureNetwork, feature_network
from diptych.evaluation.metrics.frechet import frechet_distance
from diptych.evaluation.metrics.kernel_distance import squared_mmd
from diptych.evaluation.ranking.pools import FirstCaptions
from diptych.evaluation.report import write_report
from diptych.evaluation.runner import evaluate

PLAIN = SceneConfig(size=64, min_objects=2, words=0, noise=0)
SOURCE = Scenes("test", 40, PLAIN)
ONE_CAPTION = FirstCaptions(SOURCE, 1)
"""The detailed caption alone, which is of one picture only."""


def colours(pictures: Any) -> Tensor:
    """Means of the four quarters of each picture."""
    rows = [picture.pixels_HWC.reshape(2, 32, 2, 32, 3).mean((1, 3)).ravel() / 255 for picture in pictures]
    return torch.from_numpy(np.stack(rows)).float()


def evaluated(model: Any, source: Any = ONE_CAPTION, folder: Path | None = None, **settings: Any) -> Result:
    chosen = {"generated_distribution": {"features": "known"} | settings}
    (result,) = evaluate(model, ["generated_distribution"], source, folder=folder, settings=chosen)
    return result


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    network = FeatureNetwork("mean colours", colours)
    monkeypatch.setattr(generated_distribution, "feature_network", lambda reference, device: network)


@pytest.mark.usefixtures("known")
def test_an_exact_painter_is_at_zero() -> None:
    result = evaluated(Painter(SOURCE))
    found = {name: metric.value for name, metric in result.metrics.items()}
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert found["frechet_distance"] < found["frechet_distance_of_real_halves"]
    assert -0.1 < found["kernel_distance"] < 0.01  # without bias, so below zero for a set and itself
    assert found["distance_closed"] == pytest.approx(1, abs=1e-5) and result.metrics["distance_closed"].chance == 0.0
    assert found["real_pictures"] == found["made_pictures"] == 40
    first, second = result.extras["notes"]
    assert first == "Features: mean colours, 12 numbers a picture. 40 real pictures, 40 made."
    assert second.startswith("Warning: fewer than 2,048 pictures.")


@pytest.mark.usefixtures("known")
def test_numbers_are_those_of_the_features() -> None:
    result = evaluated(HalfRight(SOURCE), subset_size=20, subsets=200)
    real = colours([SOURCE[i].image for i in range(40)]).double().numpy()
    painter = HalfRight(SOURCE)
    made = colours([painter.painted(SOURCE[i].texts[0]) for i in range(40)]).double().numpy()
    assert result.metrics["frechet_distance"].value == pytest.approx(frechet_distance(real, made), rel=1e-6)
    flat = np.repeat(real.reshape(40, 4, 3).mean(1)[:, None], 4, 1).reshape(40, 12)
    far = frechet_distance(real, flat)
    assert result.metrics["frechet_distance_of_one_colour"].value == pytest.approx(far, rel=0.05)  # colours are rounded
    closed = 1 - frechet_distance(real, made) / result.metrics["frechet_distance_of_one_colour"].value
    assert result.metrics["distance_closed"].value == pytest.approx(closed, rel=1e-6)
    kernel = result.metrics["kernel_distance"]
    assert kernel.low is not None and kernel.high is not None
    assert kernel.low - 0.02 < squared_mmd(real, made) < kernel.high + 0.02
    blind = evaluated(Blind(SOURCE))
    assert blind.metrics["frechet_distance"].value > result.metrics["frechet_distance_of_real_halves"].value
    assert blind.metrics["kernel_distance"].value > 0


@pytest.mark.usefixtures("known")
def test_captions_are_chosen_by_key() -> None:
    first, again = Painter(SOURCE), Painter(SOURCE)
    evaluated(first, SOURCE)
    evaluated(again, Scenes("test", 12, PLAIN))
    texts = [text for text, _, _ in first.asked]
    assert [text for text, _, _ in again.asked] == texts[:12]
    chosen = [SOURCE[i].texts.index(text) for i, text in enumerate(texts)]
    assert set(chosen) == {0, 1, 2, 3, 4}


@pytest.mark.usefixtures("known")
def test_a_prompt_that_does_not_fit_is_left_out() -> None:
    result = evaluated(ShortOfMemory(SOURCE))
    assert result.counts.failed == 1
    assert result.metrics["made_pictures"].value == 39
    assert result.metrics["real_pictures"].value == 40


@pytest.mark.usefixtures("known")
def test_the_report_states_network_number_and_warning(tmp_path: Path) -> None:
    evaluated(Painter(SOURCE), folder=tmp_path / "evaluation", examples=2)
    page = write_report([tmp_path], tmp_path / "report.html").read_text()
    for said in ("Features: mean colours", "Warning: fewer than 2,048 pictures", "Made of captions"):
        assert said in page


@pytest.mark.usefixtures("known")
def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="3 real and 3 made pictures: 4 of each"):
        evaluated(Painter(SOURCE), Scenes("test", 3, PLAIN))


def test_no_network_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"--set generated_distribution\.features=PATH"):
        evaluated(Painter(SOURCE), features="")
    with pytest.raises(ConfigError, match="0 subsets of 1000 pictures"):
        evaluated(Painter(SOURCE), subsets=0)
    with pytest.raises(CheckpointError):
        evaluated(Painter(SOURCE), features="/nowhere/at/all")


def test_features_of_a_model_of_ours(tmp_path: Path) -> None:
    seed_everything("features", 0)
    samples = [SOURCE[i] for i in range(8)]
    task = next(iter(models()["clip"].load().tiny_tasks(samples).values()))
    (tmp_path / "clip").mkdir()
    write_model(task.predictor(), tmp_path / "clip")
    network = feature_network(str(tmp_path / "clip"), torch.device("cpu"))
    images = [sample.image for sample in samples]
    torch.testing.assert_close(network.features(images), task.predictor().encode_image(images))
    assert "unit vectors of encode_image" in network.name
    result = evaluated(Painter(SOURCE), FirstCaptions(Scenes("test", 8, PLAIN), 1), features=str(tmp_path / "clip"))
    assert result.metrics["frechet_distance"].value == pytest.approx(0, abs=1e-4)
    vq = next(iter(models()["vq"].load().tiny_tasks(samples).values()))
    (tmp_path / "vq").mkdir()
    write_model(vq.predictor(), tmp_path / "vq")
    with pytest.raises(MissingVerb, match="encode_image"):
        feature_network(str(tmp_path / "vq"), torch.device("cpu"))


def test_features_of_a_transformers_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    torch.manual_seed(0)
    model = transformers.Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    plain = {"size": {"height": 28, "width": 28}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / PREPROCESSOR).write_text(json.dumps(plain | {"resample": 2}))
    images = [SOURCE[i].image for i in range(3)]
    network = feature_network(str(tmp_path), torch.device("cpu"))
    pixels = np.stack([np.asarray(small(image.pixels_HWC)) for image in images]).transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(plain[name])[:, None, None] for name in ("image_mean", "image_std"))
    with torch.inference_mode():
        expected = model(torch.from_numpy((pixels - mean) / std).float()).pooler_output
    torch.testing.assert_close(network.features(images), expected, rtol=0.02, atol=0.05)
    assert network.name.startswith("Dinov2Model at ")


def small(pixels_HWC: Any) -> Any:
    from PIL import Image

    return Image.fromarray(pixels_HWC).resize((28, 28), Image.Resampling.BILINEAR)


def test_a_transformers_folder_that_lacks_weights_or_pictures(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    transformers.ViTForMaskedImageModeling(config).save_pretrained(tmp_path / "vit")
    with pytest.raises(ConfigError, match="lacks weights, among them pooler"):
        feature_network(str(tmp_path / "vit"), torch.device("cpu"))
    text = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20
    )
    transformers.BertModel(text).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="a model of input_ids, not of pictures"):
        feature_network(str(tmp_path / "bert"), torch.device("cpu"))
