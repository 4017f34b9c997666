"""Tables, intervals over seeds and corrected tests, from runs written by hand."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image
from scipy import stats

from diptych.core.records.results import Counts, Metric, Result, SampleRecord, sample_line, write_result
from diptych.core.storage import write_text
from diptych.study.config import StudyBudget, StudyConfig
from diptych.study.costs import StageCost
from diptych.study.figure import drawn, write_picture
from diptych.study.findings import costs, over_seeds, read_runs, table
from diptych.study.one_run import Finished
from diptych.study.page import render
from diptych.study.record import record
from diptych.study.significance import differences, holm

RECIPES = ("clip_tiny", "coca_tiny", "vit_tiny")


def finish(folder: Path, right: list[float], seconds: float = 10.0, said: str = "a cat") -> None:
    """A run that was evaluated on matching, as its files say."""
    value = sum(right) / len(right)
    metrics = {"accuracy_expected": Metric(value, value - 0.1, value + 0.1, 0.5, len(right))}
    result = Result("matching", "m", "scenes", metrics, Counts(len(right)), {"score_pairs": "native"})
    place = folder / "evaluation" / "matching"
    write_result(result, place)
    lines = [SampleRecord(f"s{i}#c", values={"accuracy_expected": one}) for i, one in enumerate(right)]
    (place / "samples.jsonl").write_text("".join(map(sample_line, lines)))
    stages = (StageCost("first", 5, 40, 2.0, 10, 10, 50), StageCost("train", 10, 80, seconds, 30, 20, 400))
    done = Finished({"score": "native"}, {"captioning": "has no generate_text"}, stages, 100, 250, 15.0)
    write_text(folder / "finished.json", json.dumps(asdict(done)))
    answer = {"key": "s0", "task": "caption", "asked": "", "said": said, "truth": "a dog", "right": False, "png": ""}
    write_text(folder / "answers.json", json.dumps([answer]))


@pytest.fixture
def study(tmp_path: Path) -> tuple[StudyConfig, Path]:
    """Two recipes of three seeds; of a third one a seed failed and the others were not begun."""
    for seed in range(3):
        finish(tmp_path / f"clip_tiny-{seed}", [1.0, 0.0, 1.0, float(seed == 0)], 10.0 + seed)
        finish(tmp_path / f"coca_tiny-{seed}", [0.0, 0.0, 1.0, float(seed == 0)], said="<script>bad</script>")
    write_text(tmp_path / "vit_tiny-0" / "failed.json", json.dumps({"during": "training", "why": "the loss is NaN"}))
    return StudyConfig(RECIPES, "scenes?objects=1", StudyBudget(samples=80), 3), tmp_path


def test_a_cell_is_the_mean_over_seeds_with_its_t_interval(study: tuple[StudyConfig, Path]) -> None:
    (row,) = table(read_runs(*study))
    cell = row.cells["clip_tiny"]
    assert cell.metric is not None and cell.metric.low is not None
    assert dict(cell.seeds) == {0: 0.75, 1: 0.5, 2: 0.5} and cell.how == "score_pairs: native"
    assert cell.metric.value == pytest.approx(7 / 12) and cell.metric.chance == 0.5 and cell.metric.n == 3
    spread = math.sqrt((2 * (1 / 12) ** 2 + (1 / 6) ** 2) / 2)
    assert cell.metric.value - cell.metric.low == pytest.approx(stats.t.ppf(0.975, 2) * spread / math.sqrt(3))
    assert row.cells["vit_tiny"].metric is None
    assert row.cells["vit_tiny"].why == "training failed: the loss is NaN"


def test_one_seed_keeps_the_interval_over_samples() -> None:
    alone = Metric(0.4, 0.3, 0.5, 0.1, 50)
    assert over_seeds([alone]) is alone


def test_costs_are_means_with_earlier_stages_apart(study: tuple[StudyConfig, Path]) -> None:
    found = costs(read_runs(*study))
    assert set(found) == {"clip_tiny", "coca_tiny"}
    clip = found["clip_tiny"]
    assert (clip.seconds, clip.earlier_seconds, clip.flops, clip.earlier_flops) == (11.0, 2.0, 400.0, 50.0)
    assert (clip.memory, clip.trained, clip.evaluation_seconds) == (150.0, 20.0, 2.0)


def test_seeds_are_compared_in_pairs(study: tuple[StudyConfig, Path]) -> None:
    runs = read_runs(*study)
    (one,) = differences(table(runs), runs)
    assert (one.first, one.second) == ("clip_tiny", "coca_tiny")
    assert one.value == pytest.approx(-0.25) and one.corrected == one.p == 0.0  # the same difference in every seed


def test_a_single_seed_is_compared_over_samples(tmp_path: Path) -> None:
    finish(tmp_path / "clip_tiny-0", [1.0] * 12)
    finish(tmp_path / "coca_tiny-0", [0.0] * 10 + [1.0] * 2)
    config = StudyConfig(("clip_tiny", "coca_tiny"), "scenes", StudyBudget(samples=80))
    runs = read_runs(config, tmp_path)
    (one,) = differences(table(runs), runs)
    assert one.value == pytest.approx(-10 / 12) and one.p == pytest.approx(2 * 0.5**10) and one.significant


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_the_page_says_what_is_missing_and_escapes_what_models_say(study: tuple[StudyConfig, Path]) -> None:
    config, out = study
    page = render(config, read_runs(config, out))
    assert "training failed: the loss is NaN" in page and "not run yet" in page
    assert "<script>bad" not in page and "&lt;script&gt;bad" in page
    assert '<span class="how">contrastive</span>' in page and '<span class="how">generative</span>' in page
    assert "58.3" in page and config.command().replace("'", "&#39;") in page


def test_the_record_is_plain(study: tuple[StudyConfig, Path]) -> None:
    config, out = study
    found = json.loads(json.dumps(record(config, read_runs(config, out))))
    assert found["rows"][0]["cells"]["coca_tiny"]["seeds"] == {"0": 0.5, "1": 0.25, "2": 0.25}
    assert found["missing"] == {
        "vit_tiny-0": "training failed: the loss is NaN", "vit_tiny-1": "not run yet", "vit_tiny-2": "not run yet"
    }  # fmt: skip


def test_the_picture_says_the_numbers_with_intervals_chance_and_costs(study: tuple[StudyConfig, Path]) -> None:
    config, out = study
    path = out / "study.png"
    made = record(config, read_runs(config, out))
    said = [text.get_text() for text in drawn(made).axes[0].texts]
    assert said[:2] == ["contrastive", "clip_tiny"] and "Matching" in said
    low, high = (made["rows"][0]["cells"]["clip_tiny"]["metric"][end] for end in ("low", "high"))
    place = said.index("58 %")
    assert said[place + 1] == f"{100 * low:.0f} to {100 * high:.0f} %" and "50 %" in said  # of chance
    assert "11\n+ 2 before" in said  # seconds
    write_picture(made, path)
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width > 1000
