"""Documents and texts as something that is said, and what of them is learned."""

from __future__ import annotations

import pytest

from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample
from diptych.core.sample import Turn
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.derived.unprompted import UnpromptedCaptions, UnpromptedDocuments, pictures_first
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import SceneDocuments, Scenes
from diptych.data.words.chat import IMAGE, PlainTemplate
from diptych.data.words.tokenizer import Tokenizer

SCENES = SceneConfig(32, 1, words=0.0)


def test_a_picture_stands_before_what_is_said_of_it_and_all_words_are_learned() -> None:
    source = UnpromptedDocuments(SceneDocuments("train", 6, SCENES))
    plain = SceneDocuments("train", 6, SCENES)[0]
    sample = source[0]
    asked, said = sample.turns
    assert asked == Turn("user", "") and said.role == "assistant"
    texts = [part for part in plain.parts if isinstance(part, str)]
    assert said.text == " ".join([texts[0], *(f"{IMAGE} {text}" for text in texts[1:])])
    assert [one.name for one in sample.visuals] == [one.name for one in plain.visuals] and not sample.parts
    words = Tokenizer.fit([said.text], 400)
    settings = ConversationConfig(ImagePreprocessing(32, views=None), 3, 4)
    processor = ConversationProcessor(settings, words, PlainTemplate(end="<end>"))
    batch = next(iter(EvaluationBatches(source, processor, 6, 1, 0.0)))
    learned = batch.labels_BT[0][batch.labels_BT[0] != IGNORED].tolist()
    assert words.decode(learned) == words.decode(words.encode([" ".join(texts)], 300)[0])
    assert int(batch.places_BT[0].sum()) == 3 * len(plain.visuals) and batch.counts[0] == len(plain.visuals)


def test_pictures_move_over_one_text_only() -> None:
    one, two = SceneDocuments("train", 6, SCENES)[0].visuals[:2]
    moved = pictures_first(["a", "b", one, two, "c"])
    assert [part if isinstance(part, str) else part is two for part in moved] == ["a", False, True, "b", "c"]
    assert pictures_first([one, "a"]) == [one, "a"]


def test_texts_are_said_to_nobody_s_question() -> None:
    sample = UnpromptedCaptions(Scenes("train", 6, SCENES))[0]
    assert not sample.visuals and [turn.text for turn in sample.turns] == ["", sample.texts[0]]
    assert sample.key == Scenes("train", 6, SCENES)[0].key


def test_what_is_none_is_named() -> None:
    scenes = Scenes("train", 6, SCENES)
    with pytest.raises(BadSample, match=f"{scenes[0].key}: no document"):
        UnpromptedDocuments(scenes)[0]
    with pytest.raises(BadSample, match="no caption"):
        UnpromptedCaptions(SceneDocuments("train", 6, SCENES))[0]
