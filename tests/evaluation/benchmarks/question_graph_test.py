"""Questions of a prompt: by hand, by deleting and corrupting what they are about, and by answerers of known habits."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from painters import Blind, HalfRight, OneMissing, Painter, WrongColours

from diptych.core.errors import ConfigError, DataError, MissingVerb
from diptych.core.records.results import Result
from diptych.core.visual import Image
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import SceneClips, Scenes
from diptych.data.scenes.world import COLOURS, SceneObject
from diptych.evaluation.benchmark import Records
from diptych.evaluation.benchmarks import question_graph
from diptych.evaluation.generation.question_graphs import Question, graded, questions_of, recognised_answer
from diptych.evaluation.generation.scene_prompts import ScenePrompt, scene_prompts
from diptych.evaluation.runner import evaluate

PLAIN = SceneConfig(size=64, min_objects=2, words=0, noise=0)
SOURCE = Scenes("test", 10, PLAIN)
PROMPTS = scene_prompts([SOURCE[index] for index in range(10)], "detailed", Records(None, {}))


def evaluated(model: Any, source: Any = SOURCE, folder: Path | None = None, **settings: Any) -> Result:
    (result,) = evaluate(model, ["question_graph"], source, folder=folder, settings={"question_graph": settings})
    return result


def values(result: Result) -> dict[str, float]:
    return {name: metric.value for name, metric in result.metrics.items()}


def thing(colour: str, shape: str, row: int, column: int) -> SceneObject:
    return SceneObject(colour, shape, "large", row, column, 0, 0, 0)


CIRCLE, STAR = thing("red", "circle", 0, 0), thing("blue", "star", 0, 2)
TWO = ScenePrompt("k", "", (CIRCLE, STAR), ((CIRCLE, "to the left of", STAR),), True, SOURCE[0])


def asked(prompt: ScenePrompt, seen: Sequence[SceneObject]) -> Any:
    questions = questions_of(prompt)
    return graded(questions, [recognised_answer(question, seen) for question in questions])


def test_the_questions_of_a_prompt() -> None:
    found = questions_of(TWO)
    assert [(question.text, question.answer, question.parents) for question in found] == [
        ("is there a circle?", "yes", ()),
        ("is there a star?", "yes", ()),
        ("what colour is the circle?", "red", (0,)),
        ("what colour is the star?", "blue", (1,)),
        ("is there a red circle to the left of a blue star?", "yes", (0, 1)),
        ("how many objects are there?", "two", ()),
    ]
    both = ScenePrompt("k", "", (CIRCLE, replace(CIRCLE, colour="pink", column=1)), (), False, SOURCE[0])
    assert [question.text for question in questions_of(both)] == [
        "is there a circle?", "is there a red circle?", "is there a pink circle?",
    ]  # fmt: skip


def test_a_prompt_s_own_objects_answer_everything() -> None:
    for prompt in PROMPTS:
        found = asked(prompt, prompt.objects)
        assert found.tifa == found.dsg == 1.0
        assert set(found.right.values()) == {1.0}


def test_by_hand() -> None:
    # No circle: its colour and the relation are wrong too, and there is one object.
    missing = asked(TWO, [STAR])
    assert missing.tifa == missing.dsg == pytest.approx(2 / 6)
    # A circle of another colour: colour and relation are wrong.
    other = asked(TWO, [replace(CIRCLE, colour="green"), STAR])
    assert other.tifa == other.dsg == pytest.approx(4 / 6)
    assert other.right == {"object": 1.0, "colour": 0.5, "relation": 0.0, "count": 1.0}
    # Right answers about a circle that is not there count for TIFA alone.
    sure = graded(questions_of(TWO), ["no", "yes", "red", " Blue ", "yes", "two"])
    assert (sure.tifa, sure.dsg) == (pytest.approx(5 / 6), pytest.approx(3 / 6))


def test_the_stricter_score_is_never_higher() -> None:
    questions = questions_of(TWO)
    for right in product((True, False), repeat=len(questions)):
        found = graded(questions, [q.answer if yes else "?" for q, yes in zip(questions, right, strict=True)])
        assert found.dsg <= found.tifa == pytest.approx(sum(right) / 6)
        # Deleting a root takes its whole subtree with it, whatever is said of that.
        alone = [right[0], right[1], right[0] and right[2], right[1] and right[3], right[0] and right[1] and right[4]]
        assert found.dsg == pytest.approx((sum(alone) + right[5]) / 6)


def test_a_chain_of_questions_breaks_at_its_first_wrong_answer() -> None:
    chain = [Question("object", str(i), "yes", ("yes", "no"), (i - 1,) if i else ()) for i in range(4)]
    assert graded(chain, ["yes", "no", "yes", "yes"]).dsg == 1 / 4
    assert graded(chain, ["yes", "no", "yes", "yes"]).tifa == 3 / 4


def test_more_corrupted_attributes_score_less() -> None:
    for prompt in PROMPTS:
        seen, scores = list(prompt.objects), []
        unused = next(name for name in COLOURS if name not in {one.colour for one in seen})
        for index in range(len(seen) + 1):
            scores.append(asked(prompt, seen))
            if index < len(seen):
                seen[index] = replace(seen[index], colour=unused)
        for name in ("tifa", "dsg"):
            found = [getattr(score, name) for score in scores]
            assert found[0] == 1.0 and found == sorted(found, reverse=True) and found[-1] < found[0]


def test_painters() -> None:
    exact = evaluated(Painter(SOURCE))
    assert values(exact) == dict.fromkeys(("dsg", "tifa", "object", "colour", "relation", "count"), 1.0)
    assert all(metric.chance is not None and metric.chance < 0.8 for metric in exact.metrics.values())
    assert exact.extras["notes"] == ["Answers: the recogniser of the scenes."]
    half = values(evaluated(HalfRight(SOURCE)))
    assert half["tifa"] == half["dsg"] == 0.5
    wrong = values(evaluated(WrongColours(SOURCE)))
    assert (wrong["object"], wrong["colour"], wrong["relation"], wrong["count"]) == (1, 0, 0, 1)
    missing = values(evaluated(OneMissing(SOURCE)))
    assert missing["count"] == 0.0 and missing["dsg"] <= missing["tifa"] < 0.8
    blind = evaluated(Blind(SOURCE), others=9)
    for name in ("tifa", "object", "count"):
        assert blind.metrics[name].value == pytest.approx(blind.metrics[name].chance, abs=1e-12)


class Answers(Painter):
    VERBS = ("answer",)

    def answer(self, visuals: Sequence[Image], questions: Sequence[str], choices: Sequence[Sequence[str]]) -> list[str]:
        return ["yes" if "yes" in options else options[0] for options in choices]


def test_an_answerer_of_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question_graph, "load", {"yes": Answers(SOURCE), "mute": Painter(SOURCE)}.__getitem__)
    result = evaluated(Painter(SOURCE), answerer="yes")
    assert result.metrics["object"].value == result.metrics["object"].chance == 1.0
    assert result.metrics["relation"].value == result.metrics["relation"].chance == 1.0
    assert result.metrics["count"].value == 0.0
    assert result.extras["notes"] == ["Answers: yes."]
    with pytest.raises(MissingVerb, match="painter has no verb 'answer'"):
        evaluated(Painter(SOURCE), answerer="mute")


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(DataError, match=r"has 0 prompt\(s\) of scenes"):
        evaluated(Painter(SOURCE), SceneClips("test", 2, PLAIN))
    with pytest.raises(ConfigError, match="chance needs one other prompt"):
        evaluated(Painter(SOURCE), others=0)
