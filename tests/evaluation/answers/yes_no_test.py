import numpy as np
import pytest

from diptych.evaluation.answers.yes_no import Judgement, ratio_metric, read_yes_no, yes_no_metrics


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("Yes, there is a dog.", "yes"),
        ("No", "no"),
        ("no, there is none", "no"),
        ("There is not a car in it", "no"),
        ("There is a car. No doubt", "yes"),  # the first sentence alone
        ("nothing of the kind", "yes"),  # habits of the official reading: no word of its own
        ("NO", "yes"),
        ("It isn't there", "yes"),
        ("", "yes"),
    ],
)
def test_reading(answer: str, read: str) -> None:
    assert read_yes_no(answer) == read


def judged(said: str, true: str) -> list[Judgement]:
    word = {"y": "yes", "n": "no"}
    return [Judgement(str(place), word[t], word[s]) for place, (s, t) in enumerate(zip(said, true, strict=True))]


def test_by_counting() -> None:
    found = yes_no_metrics(judged("yyynnnny", "yynyynnn"))  # TP 2, FP 2, FN 2, TN 2
    values = {name: metric.value for name, metric in found.items()}
    assert values == {"accuracy": 0.5, "f1": 0.5, "precision": 0.5, "recall": 0.5, "yes_rate": 0.5}
    rng = np.random.Generator(np.random.PCG64(0))
    for _ in range(20):
        said, true = ("".join(rng.choice(["y", "n"], 12)) for _ in range(2))
        tp, fp = (sum(s == "y" and t == w for s, t in zip(said, true, strict=True)) for w in "yn")
        fn = sum(s == "n" and t == "y" for s, t in zip(said, true, strict=True))
        found = yes_no_metrics(judged(said, true))
        assert found["f1"].value == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert found["precision"].value == pytest.approx(tp / (tp + fp))
        assert found["recall"].value == pytest.approx(tp / (tp + fn))


def test_one_answer_for_everything() -> None:
    always = yes_no_metrics(judged("y" * 8, "yn" * 4))
    values = {name: metric.value for name, metric in always.items()}
    assert values == {
        "accuracy": 0.5, "f1": pytest.approx(2 / 3), "precision": 0.5, "recall": 1.0, "yes_rate": 1.0,
    }  # fmt: skip
    assert always["f1"].value == always["f1"].chance and always["precision"].value == always["precision"].chance
    never = yes_no_metrics(judged("n" * 8, "yn" * 4))
    assert "precision" not in never
    assert (never["f1"].value, never["recall"].value, never["yes_rate"].value) == (0.0, 0.0, 0.0)


def test_a_ratio_s_interval_is_over_units() -> None:
    rows = [1.0, 0.0, 1.0, 1.0] * 10
    apart = ratio_metric(rows, [1.0] * 40, [str(i) for i in range(40)])
    together = ratio_metric(rows, [1.0] * 40, [str(i // 10) for i in range(40)])
    assert apart.value == together.value == 0.75 and (apart.n, together.n) == (40, 4)
    assert apart.low is not None and apart.low < 0.75 < (apart.high or 0)
    assert together.low is not None and (together.high or 0) - together.low < 0.2  # four units that hardly differ
