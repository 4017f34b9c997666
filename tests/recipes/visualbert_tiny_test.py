"""The VisualBERT recipe, from a tokenizer to a model that is measured on the matching of pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diptych.capabilities.load import load
from diptych.core.config import from_plain, to_plain
from diptych.core.errors import ConfigError
from diptych.data.pixels.regions import RegionConfig
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.bert import BertConfig
from diptych.layers.feature_map import BackboneMapConfig, ConvMapConfig
from diptych.models.early_fusion import visualbert
from diptych.recipes.visualbert_tiny import SELECTED_BY, VisualBertRun, visualbert_tiny
from diptych.training.fit import fit
from diptych.training.run import Budget


def small(**changed: Any) -> VisualBertRun:
    run = visualbert_tiny()
    text = BertConfig(context=64, width=32, depth=1, heads=2, hidden=64)
    model = visualbert.Config(text, 24, ConvMapConfig(16, 2), box_geometry=True)
    return replace(
        run,
        **{
            "data": "scenes?size=32&count=64&objects=2",
            "image": replace(run.image, size=32),
            "model": model,
            "batch_size": 8,
            "budget": Budget(steps=4),
            "evaluate_every": 4,
            "threads": 1,
            **changed,
        },
    )


def test_a_run_is_its_plain_values() -> None:
    assert from_plain(VisualBertRun, to_plain(visualbert_tiny())) == visualbert_tiny()
    assert [stage.name for stage in visualbert_tiny().stages()] == ["tokenizer", "train"]


@pytest.mark.parametrize("source", ["proposed", "boxes"])
def test_it_trains_and_its_best_model_scores_and_fills_in(tmp_path: Path, source: Any) -> None:
    folder = fit(small(regions=RegionConfig(source, grid=(1, 2), most=5)), tmp_path / "run")
    model = load(folder.path)
    samples = [Scenes("val", 4, SceneConfig(size=32))[index] for index in range(4)]
    images = [sample.image for sample in samples]
    assert model.score(images, [sample.texts[0] for sample in samples]).shape == (4, 4)
    words = model.fill_text(images, ["a [MASK] circle"] * 4, [["red", "blue"]] * 4)
    assert all(word in (["red"], ["blue"]) for word in words)
    assert SELECTED_BY in (folder.path / "metrics.jsonl").read_text(encoding="utf-8")


def test_what_makes_region_features_is_trained_along() -> None:
    for features in (None, BackboneMapConfig()):
        with pytest.raises(ConfigError, match=r"leave model\.features a convolutional map"):
            small(model=replace(visualbert.Config.tiny(), features=features))
