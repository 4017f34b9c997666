import numpy as np
import pytest
import torch
from toy import ToyPredictor

from diptych.capabilities import derive
from diptych.capabilities.verbs import RULES, Comparable, Verb, missing, reachable
from diptych.core.errors import DiptychError, MissingVerb


def picture(colour: int) -> np.ndarray:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[..., colour] = 200
    return pixels


PICTURES = [picture(0), picture(2)]


def test_every_rule_has_a_function_of_its_own() -> None:
    from diptych.capabilities.derive import _FUNCTIONS

    assert list(_FUNCTIONS) == list(RULES)
    assert len(set(_FUNCTIONS.values())) == len(RULES)


def test_encodings_give_score_pairs_and_answers() -> None:
    model = ToyPredictor()
    assert model.verbs == {"encode_image", "encode_text", "score", "score_pairs", "answer"}
    assert torch.equal(model.score(PICTURES, ["red", "green", "blue"]), torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]))
    assert torch.equal(model.score_pairs(PICTURES, ["red", "red"]), torch.tensor([1.0, 0.0]))
    assert model.answer(PICTURES, ["colour?"] * 2, [["green", "red"], ["blue", "red"]]) == ["red", "blue"]
    assert model.how("score") == "cosine of encodings"
    assert model.how("encode_image") == "native"
    assert model.comparable_over is Comparable.BOTH


def test_a_score_gives_pairs_one_by_one() -> None:
    class OnlyScore(ToyPredictor):
        VERBS = ("score",)

        def score(self, visuals, texts):  # type: ignore[no-untyped-def]
            return self.encode_image(visuals) @ self.encode_text(texts).T

    model = OnlyScore()
    assert model.how("score_pairs") == "score of each pair"
    assert torch.equal(model.score_pairs(PICTURES, ["red", "blue"]), torch.tensor([1.0, 1.0]))
    with pytest.raises(DiptychError, match="got 2 visuals and 1 texts"):
        model.score_pairs(PICTURES, ["red"])


def test_pairs_give_a_score_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class OnlyPairs(ToyPredictor):
        VERBS = ("score_pairs",)

        def score_pairs(self, visuals, texts):  # type: ignore[no-untyped-def]
            calls.append(len(texts))
            return (self.encode_image(visuals) * self.encode_text(texts)).sum(-1)

    monkeypatch.setattr(derive, "PAIRS", 4)
    model = OnlyPairs()
    assert model.verbs == {"score_pairs", "score", "answer"}
    assert model.how("score") == "matching score of every pair"
    expected = ToyPredictor().score([*PICTURES, PICTURES[0]], ["red", "green", "blue"])
    assert torch.equal(model.score([*PICTURES, PICTURES[0]], ["red", "green", "blue"]), expected)
    assert calls == [4, 4, 1]
    prepared = torch.from_numpy(np.stack([*PICTURES, PICTURES[0]]))
    assert torch.equal(model.score(prepared, ["red", "green", "blue"]), expected)
    assert model.score(PICTURES, []).shape == (2, 0) and model.score([], ["red"]).shape == (0, 1)
    assert model.answer(PICTURES, ["colour?"] * 2, [["green", "red"], ["blue", "red"]]) == ["red", "blue"]


def test_a_missing_verb_is_refused_by_naming_what_there_is() -> None:
    model = ToyPredictor()
    with pytest.raises(
        MissingVerb, match=r"toy has no verb 'generate_image': it offers answer, encode_image, encode_text"
    ):
        model.generate_image(["a cat"])
    with pytest.raises(MissingVerb):
        model.how("locate")
    with pytest.raises(AttributeError, match="no attribute 'encode_imgae'"):
        model.encode_imgae(PICTURES)


def test_an_answer_by_score_needs_choices() -> None:
    with pytest.raises(DiptychError, match="give it the choices"):
        ToyPredictor().answer(PICTURES, ["?"] * 2)


def test_reachable_and_missing() -> None:
    assert reachable(["encode_image"]).keys() == {Verb.ENCODE_IMAGE}
    assert missing(["encode_image", "encode_text"], ["score", "locate"]) == [Verb.LOCATE]
    assert missing(["encode_image"], ["text_likelihood|image_likelihood", "locate"]) == ["text_likelihood", "locate"]
    assert missing(["image_likelihood"], ["text_likelihood|image_likelihood"]) == []
