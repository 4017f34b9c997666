"""The recipes of tokenizers and autoencoders, cut short: they train, are measured and are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from diptych.capabilities.load import load
from diptych.cli import main
from diptych.evaluation.report import write_report
from diptych.evaluation.reporting.progress_pictures import progress, read_pictures
from diptych.layers.perceptual_network import BackboneFeatures
from diptych.recipes.vqgan_tiny import VqganRun

SHORT = ["--threads", "1", "--image.size", "32", "--evaluate_every", "20", "--log_every", "1", "--held_out", "16"]


@pytest.mark.parametrize(
    ("recipe", "verbs", "phases"),
    [
        ("vqgan_tiny", {"reconstruct", "tokenize_image"}, {"discriminator"}),
        ("vit_vqgan_tiny", {"reconstruct", "tokenize_image"}, set()),
        ("autoencoder_kl_tiny", {"reconstruct"}, set()),
    ],
)
def test_a_short_run_improves_and_is_loaded(tmp_path: Path, recipe: str, verbs: set[str], phases: set[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["train", recipe, "--run", run, "--batch_size", "4", "--budget.samples", "160", *SHORT]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    losses = [line["parts"]["l2"] for line in lines]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert phases <= lines[-1]["parts"].keys()
    assert ("codes_used" in lines[-1]["evaluation"]) == ("tokenize_image" in verbs)
    assert lines[-1]["evaluation"]["psnr"] > 10
    assert load(run).verbs == verbs
    (stage,) = progress(read_pictures(tmp_path / "run" / "pictures"))
    assert len(stage.rows) == 4
    assert [one.title for one in stage.rows[0].pictures] == ["true", "step 20", "step 40"]
    assert len({one.address for one in stage.rows[0].pictures}) == 3  # and the model's are not the same twice
    assert "Made at several steps of stage train" in write_report([tmp_path / "run"]).read_text(encoding="utf-8")


def test_a_named_backbone_judges_how_pictures_look(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    mean = [0.4, 0.5, 0.6]
    plain = {"size": {"height": 32, "width": 32}, "image_mean": mean, "image_std": mean, "do_resize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(plain))
    network = VqganRun(perceptual_backbone=str(tmp_path)).perceptual_network()
    assert isinstance(network, BackboneFeatures)
    assert network.scale_C11.flatten().tolist() == pytest.approx([0.5 / value for value in mean])
    assert VqganRun().perceptual_network() is None
