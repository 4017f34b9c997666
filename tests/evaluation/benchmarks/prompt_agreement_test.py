"""Painters of which it is known what they get right; chance, ceiling, judge, resuming."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from captioner import Captioner, Knows
from captioner import Painter as Likely
from painters import Blind, HalfRight, Mirrors, OneMissing, Painter, ShortOfMemory, WrongColours

from diptych.core.errors import ConfigError, DataError, MissingVerb
from diptych.core.records.results import Result, read_samples
from diptych.core.sampling import ImageSampling
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import SceneClips, Scenes
from diptych.evaluation.benchmark import Records
from diptych.evaluation.generation import judge
from diptych.evaluation.generation.scene_agreement import agreement, related
from diptych.evaluation.generation.scene_prompts import scene_prompts
from diptych.evaluation.report import write_report
from diptych.evaluation.runner import evaluate

PLAIN = SceneConfig(size=64, min_objects=2, words=0, noise=0)
COUNT = 10
SOURCE = Scenes("test", COUNT, PLAIN)
KINDS = ("object", "colour", "relation", "count", "all")


def evaluated(model: Any, source: Any = SOURCE, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["prompt_agreement"], source, folder=folder, settings={"prompt_agreement": settings})
    return result


def values(result: Result) -> dict[str, float]:
    return {name: metric.value for name, metric in result.metrics.items()}


def test_an_exact_painter_gets_all_that_the_recogniser_reads() -> None:
    result = evaluated(Painter(SOURCE))
    found = values(result)
    for kind in KINDS:
        assert found[kind] == found[f"{kind}_true_picture"] == 1.0
        chance = result.metrics[kind].chance
        assert chance is not None and chance < 0.6, kind
    assert found["nothing"] == 0.0
    assert result.counts.evaluated == COUNT


def test_a_blind_painter_gets_chance_exactly() -> None:
    result = evaluated(Blind(SOURCE))
    for kind in ("object", "colour", "count"):
        assert result.metrics[kind].value == pytest.approx(result.metrics[kind].chance, abs=1e-12)
    assert 0 < result.metrics["object"].value < 0.5
    assert result.metrics["relation_true_picture"].value == 1.0


def test_what_is_half_right_gets_half() -> None:
    found = values(evaluated(HalfRight(SOURCE)))
    for kind in ("object", "colour", "count", "all"):
        assert found[kind] == 0.5
    assert found["nothing"] == 0.5


def test_one_thing_wrong_is_seen_as_that() -> None:
    wrong = values(evaluated(WrongColours(SOURCE)))
    assert (wrong["object"], wrong["count"], wrong["colour"], wrong["relation"], wrong["all"]) == (1, 1, 0, 0, 0)
    turned = values(evaluated(Mirrors(Scenes("test", COUNT, PLAIN))))
    assert turned["relation"] == 0.0 and turned["count"] == 1.0
    missing = values(evaluated(OneMissing(SOURCE)))
    counts = [len(SOURCE.scene(i).objects) for i in range(COUNT)]
    assert missing["object"] == missing["colour"] == pytest.approx(sum(1 - 1 / n for n in counts) / COUNT)
    assert missing["count"] == 0.0


def test_captions_of_other_kinds() -> None:
    related_only = evaluated(Painter(SOURCE), caption="related")
    assert {"relation", "object", "colour"} <= related_only.metrics.keys() and "count" not in related_only.metrics
    assert related_only.metrics["relation"].value == 1.0
    listed = evaluated(Painter(SOURCE), caption="listed")
    assert "relation" not in listed.metrics and listed.metrics["count"].value == 1.0


def test_what_a_prompt_says() -> None:
    (prompt,) = scene_prompts([SOURCE[0]], "detailed", Records(None, {}))
    seen = prompt.objects
    assert agreement(prompt, seen)["all"] == 1.0
    assert agreement(prompt, ()) == {"object": 0, "colour": 0, "relation": 0, "count": 0, "all": 0}
    assert agreement(prompt, (*seen, seen[0])) == agreement(prompt, seen) | {"count": 0.0, "all": 0.0}
    for first, relation, second in prompt.relations:
        assert related(first.name, relation, second.name, seen)
        assert not related(second.name, relation, first.name, [first, second])


def test_every_prompt_has_its_seed_and_a_sampling_of_the_caller_s() -> None:
    model = Painter(SOURCE)
    evaluated(model, sampling={"guidance": 3.0}, examples=0)
    seeds = {text: seed for text, seed, _ in model.asked}
    assert len(set(seeds.values())) == len(model.asked) == COUNT
    assert {sampling for _, _, sampling in model.asked} == {ImageSampling(guidance=3.0)}
    again = Painter(SOURCE)
    evaluated(again, Scenes("test", 5, PLAIN), examples=0)
    assert all(seeds[text] == seed for text, seed, _ in again.asked)


def test_a_prompt_that_does_not_fit_is_counted() -> None:
    result = evaluated(ShortOfMemory(SOURCE))
    assert (result.counts.evaluated, result.counts.failed) == (COUNT - 1, 1)
    assert result.metrics["all"].value == 1.0


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    whole = evaluated(Painter(SOURCE), folder=tmp_path)
    lines = tmp_path / "prompt_agreement" / "samples.jsonl"
    kept = lines.read_text().splitlines(keepends=True)
    lines.write_text("".join(kept[:6]))
    model = Painter(SOURCE)
    assert evaluated(model, folder=tmp_path, examples=8).metrics == whole.metrics
    assert len(model.asked) == COUNT - 6 + 8
    assert [record.key for record in read_samples(tmp_path / "prompt_agreement")] == list(SOURCE.keys())


def test_a_judge_chooses_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    judges = {"sees": Likely(Knows(SOURCE)), "blind": Likely(Knows(SOURCE), sees=0.0), "paints": Painter(SOURCE)}
    monkeypatch.setattr(judge, "load", judges.__getitem__)
    right = evaluated(Painter(SOURCE), judge="sees", among=5)
    assert right.metrics["judge"].value == 1.0 and right.metrics["judge"].chance == pytest.approx(1 / 5)
    tied = evaluated(Painter(SOURCE), judge="blind", among=5)
    assert tied.metrics["judge"].value == 0.0 and tied.metrics["judge_expected"].value == pytest.approx(1 / 5)
    everyone = evaluated(Painter(SOURCE), judge="blind", among=100)
    assert everyone.metrics["judge_expected"].value == pytest.approx(everyone.metrics["judge_expected"].chance)
    with pytest.raises(MissingVerb, match="painter has no verb 'score'"):
        evaluated(Painter(SOURCE), judge="paints")


def test_the_report_shows_what_was_made(tmp_path: Path) -> None:
    evaluated(HalfRight(SOURCE), folder=tmp_path / "evaluation", examples=2)
    page = write_report([tmp_path], tmp_path / "report.html").read_text()
    assert "Made of prompts" in page and "made; read as nothing" in page and "data:image/png" in page


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(DataError, match=r"has 0 prompt\(s\) of scenes"):
        evaluated(Painter(SOURCE), SceneClips("test", 2, PLAIN))
    with pytest.raises(ConfigError, match="chooses from two prompts or more"):
        evaluated(Painter(SOURCE), among=1)
    with pytest.raises(MissingVerb, match="captioner has no verb 'generate_image'"):
        evaluated(Captioner(Knows(SOURCE)))
    alone = Scenes("test", 6, dataclasses.replace(PLAIN, objects=1, min_objects=1))
    with pytest.raises(DataError, match=r"has 0 prompt\(s\)"):
        evaluated(Painter(alone), alone, caption="related")
