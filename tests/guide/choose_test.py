"""The survey's four bullets on which family to choose, and that every advice names what there is."""

import json
from pathlib import Path

import pytest

from diptych.commands.choose import main as choose
from diptych.core import discovery
from diptych.core.errors import ConfigError, DataError
from diptych.guide import evidence
from diptych.guide.advice import Advice, advise
from diptych.guide.evidence import extract, read_evidence
from diptych.guide.routes import ROUTES, Family, Route
from diptych.guide.situation import Need, Situation, count
from diptych.training.configured import recipe


def first(*needs: Need, pairs: int = 1_000_000, parts: bool = False, gpus: int = 1, texts: int = 0) -> Advice:
    return advise(Situation(needs, pairs, texts=texts, parts=parts, gpus=gpus))[0]


def of(family: Family, found: list[Advice]) -> Advice:
    return next(one for one in found if one.route.family is family)


def test_contrast_for_retrieval_with_much_data_and_many_gpus() -> None:
    """3.3.1: simple, maps texts and pictures to one space; needs large data and batches, and writes no captions."""
    best = first(Need.RETRIEVAL, pairs=400_000_000, gpus=64)
    assert best.route.model == "clip" and best.how == {Need.RETRIEVAL: "cosine of encodings"}
    found = advise(Situation((Need.RETRIEVAL,), 1_000_000, gpus=1))
    poor = next(one for one in found if one.route.model == "clip")
    assert any("large batches" in reason.text for reason in poor.risks)
    assert of(Family.CONTRASTIVE, advise(Situation((Need.CAPTIONS,), 1_000_000))).unmet == [Need.CAPTIONS]


def test_masking_for_small_batches_at_the_cost_of_a_decoder() -> None:
    """3.3.2."""
    found = of(Family.MASKED, advise(Situation((Need.RETRIEVAL,), 1_000_000, gpus=1)))
    assert any("small batches" in reason.text for reason in found.pros)
    assert any("decoder" in reason.text for reason in found.risks)


def test_generation_for_pictures_at_more_compute() -> None:
    """3.3.3."""
    best = first(Need.PICTURES, gpus=8)
    assert best.route.family is Family.GENERATIVE and any("more compute" in reason.text for reason in best.risks)
    assert all(one.unmet for one in advise(Situation((Need.PICTURES,), 1000)) if one.route.family is Family.CONTRASTIVE)


def test_pretrained_parts_for_small_means_with_the_language_models_faults() -> None:
    """3.3.4."""
    best = first(Need.CAPTIONS, Need.ANSWERS, pairs=8000, parts=True, gpus=0)
    assert best.route.family is Family.BACKBONES
    assert any("not in the picture" in reason.text for reason in best.risks)
    best = first(Need.RETRIEVAL, pairs=8000, parts=True, gpus=0)
    assert (best.route.model, best.recipe) == ("locked_clip", "flickr8k_lit")


def test_boxes_and_unpaired_data_count() -> None:
    plain, boxes = (advise(Situation((Need.MATCHING,), 50_000, boxes=known)) for known in (False, True))
    assert of(Family.EARLY, boxes).weight == of(Family.EARLY, plain).weight + 2
    alone = advise(Situation((Need.RETRIEVAL,), 1_000_000, images=5_000_000))
    flava = next(one for one in alone if one.route.model == "flava")
    assert any("alone" in reason.text for reason in flava.pros)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.title)
def test_every_route_names_a_model_and_recipes_that_are_there(route: Route) -> None:
    assert route.model in discovery.models() and (route.recipe or route.on_parts)
    for name in {route.recipe, route.on_parts} - {""}:
        assert recipe(name).name == name


def test_counts_as_people_write_them() -> None:
    assert [count(text) for text in ("8000", "8k", "1.5M", "2B")] == [8000, 8000, 1_500_000, 2_000_000_000]
    with pytest.raises(ConfigError, match="'many' is no count"):
        count("many")


def test_what_cannot_be_answered_is_refused() -> None:
    with pytest.raises(ConfigError, match="give --pairs"):
        Situation((Need.RETRIEVAL,))
    with pytest.raises(DataError, match="no study at"):
        read_evidence(Path("nowhere.json"))


def test_the_command_shows_a_studys_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.01, "n": 5, "unit": "share"}
    row = {"ability": "Retrieval", "benchmark": "retrieval", "metric": "r1", "title": "R@1", "chance": 0.01}
    cost = {"seconds": 10.0, "earlier_seconds": 5.0, "flops": 2e12, "earlier_flops": 0.0}
    study = tmp_path / "study.json"
    other = {**row, "benchmark": "masked_words", "cells": {}}
    cells = {"clip_tiny": {"metric": metric, "seeds": {}}, "vit_tiny": {"metric": None}}
    made = {"command": "diptych study", "rows": [{**row, "cells": cells}, other], "costs": {"clip_tiny": cost}}
    study.write_text(json.dumps(made))
    assert choose(["--need", "retrieval", "--pairs", "400M", "--gpus", "64", "--json", "--study", str(study)]) == 0
    best = json.loads(capsys.readouterr().out)[0]
    assert best["measured"] == [
        "Retrieval, R@1: 50.0 % [40.0 %, 60.0 %], chance 1.0 %", "for 2 TFLOPs, 15 s of training"
    ]  # fmt: skip
    committed = tmp_path / "committed.json"
    committed.write_text(json.dumps(extract(made)))
    monkeypatch.setattr(evidence, "OWN", committed)
    assert [row["benchmark"] for row in extract(made)["rows"]] == ["retrieval"]
    assert choose(["--need", "retrieval", "--pairs", "400M", "--gpus", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["measured"] == best["measured"]
    assert choose(["--need", "captions", "--pairs", "8k", "--parts"]) == 0
    said = capsys.readouterr().out
    assert "diptych train llava_tiny --data DATA" in said
    assert "what it takes: diptych plan llava_tiny --data DATA --gpus 1xcpu" in said
