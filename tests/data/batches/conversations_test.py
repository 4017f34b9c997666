"""Conversations as tokens: labels against the rendered text, places of pictures, what is refused and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych.core.errors import ConfigError, DataError
from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.visual import Clip, Image
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.chat import IMAGE, JinjaTemplate, PlainTemplate, Template, read_template, rendered
from diptych.data.words.tokenizer import Tokenizer

CHATML = (
    "{% for m in messages %}{{ '<start>' + m.role + '\n' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<end>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)
TEMPLATES: dict[str, Template] = {
    "plain": PlainTemplate(end="<end>"), "jinja": JinjaTemplate(CHATML, {"bos_token": "<start>"}),
}  # fmt: skip
TALK = [Turn("user", "what is this?"), Turn("assistant", "a red circle"), Turn("user", "where?"),
        Turn("assistant", "in the middle")]  # fmt: skip
IMAGE_ONE = Image(pixels_HWC=np.zeros((32, 32, 3), np.uint8), name="black")


def processor(template: Template = TEMPLATES["plain"], **changes: Any) -> ConversationProcessor:
    words = [turn.text for turn in TALK] + ["USER: ASSISTANT: user assistant", "a large blue square on white"]
    config = ConversationConfig(ImagePreprocessing(32, views=None), slots=4, **{"pictures": 2, **changes})
    return ConversationProcessor(config, Tokenizer.fit(words, 400, lowercase=False), template)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_what_is_learned_is_what_the_assistant_says(kind: str) -> None:
    """Decoded again, the labels are the answers with their ends, in order, and nothing else."""
    made = processor(TEMPLATES[kind])
    read = made.read(TALK, 1, "x")
    assert sum(read.places) == 4 and len(read.tokens) == len(read.labels) == len(read.places)
    assert all(label in (IGNORED, token) for token, label in zip(read.tokens, read.labels, strict=True))
    learned = [token for token in read.labels if token != IGNORED]
    text = made.text_of(learned)
    ends = "<end>" if kind == "plain" else "<end>\n"
    said = f"a red circle{ends} in the middle{ends}".split()
    assert text.replace("<end>", " <end> ").split() == " ".join(said).replace("<end>", " <end> ").split()
    assert learned.count(made.tokenizer.end_id) == 2
    whole, answers = rendered(made.template, TALK, "x")
    assert [whole[begin:end].strip().removesuffix("<end>").strip() for begin, end in answers] == [
        "a red circle", "in the middle",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_prompt_is_the_beginning_of_what_was_learned(kind: str) -> None:
    made = processor(TEMPLATES[kind])
    whole, prompt = made.read(TALK[:2], 1, "x"), made.opened(TALK[:1], 1, "x")
    count = len(prompt.tokens)
    assert whole.tokens[:count] == prompt.tokens and whole.places[:count] == prompt.places
    assert set(whole.labels[:count]) == {IGNORED} and IGNORED not in whole.labels[count : count + 3]


def test_control_tokens_are_those_of_the_template_alone() -> None:
    made = processor(TEMPLATES["jinja"])
    tokens = made.read(TALK[:2], 0, "x").tokens
    assert tokens.count(made.tokenizer.end_id) == 2 and tokens.count(made.tokenizer.start_id) == 2


def test_pictures_stand_where_the_turns_say() -> None:
    made = processor()
    turns = [Turn("user", f"first {IMAGE} then {IMAGE}?"), Turn("assistant", "a red circle")]
    read = made.read(turns, 2, "x")
    places = [place for place, shown in enumerate(read.places) if shown]
    assert len(places) == 8 and places[4] > places[3] + 1
    alone = made.read([Turn("user", "what?"), Turn("assistant", "red")], 2, "x")
    assert sum(alone.places) == 8


def test_a_batch_holds_the_pictures_in_order_and_pads_at_the_right() -> None:
    source = Scenes("train", 10, SceneConfig(32, 1, words=0.0))
    made = processor(max_length=128)
    batch = next(iter(EvaluationBatches(source, made, 10, 2, 0.0)))
    assert batch.counts == (1,) * 10 and batch.pixels_NCHW.shape == (10, 3, 32, 32)
    assert torch.equal(batch.places_BT.sum(1), torch.full((10,), 4))
    for row, length in enumerate(batch.lengths_B.tolist()):
        assert (batch.labels_BT[row, length:] == IGNORED).all() and not batch.places_BT[row, length:].any()
        answer = source[row].turns[1].text
        said = batch.labels_BT[row][batch.labels_BT[row] != IGNORED].tolist()
        assert made.tokenizer.decode(said).strip().removesuffix("<end>").strip() == answer
    parts = batch.split(4)
    assert [part.num_samples for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part.pixels_NCHW for part in parts]), batch.pixels_NCHW)


def test_what_is_learned_can_be_looked_at() -> None:
    source = Scenes("train", 3, SceneConfig(32, 1, words=0.0))
    made = processor(max_length=128)
    shown = made.preview(next(iter(EvaluationBatches(source, made, 3, 1, 0.0))))
    for preview, sample in zip(shown, map(source.__getitem__, range(3)), strict=True):
        assert preview.key == sample.key and preview.tokens is not None and preview.tokens.limit == 128
        assert preview.picture_HWC is not None and np.array_equal(preview.picture_HWC, sample.image.pixels_HWC)
        before, _, rest = preview.text.partition("«")
        learned, _, after = rest.partition("»")
        assert "[1 x 4 of a picture]" in before and sample.turns[0].text in " ".join(before.split())
        assert learned.replace("<end>", "").strip() == sample.turns[1].text and not after.strip()


def test_a_caption_without_a_conversation_is_asked_for() -> None:
    made = processor(prompt="describe")
    rows = {"pixels": np.zeros((2, 32, 32, 3), np.uint8)}
    found = made.prepare(Sample("x", (IMAGE_ONE,), ("a red circle",)), None, rows)
    said = [token for token in found.read.labels if token != IGNORED]
    assert made.tokenizer.decode(said).strip().removesuffix("<end>").strip() == "a red circle"


def refused(made: ConversationProcessor, sample: Sample) -> str:
    rows = {"pixels": np.zeros((2, 32, 32, 3), np.uint8)}
    with pytest.raises(BadSample) as caught:
        made.prepare(sample, None, rows)
    return str(caught.value)


def test_what_cannot_be_used_is_refused_with_its_key_and_both_numbers() -> None:
    ask, say = Turn("user", "what is this?"), Turn("assistant", "a red circle " * 20)
    assert "x: too many pictures (3 pictures, and at most 2 fit)" in refused(
        processor(), Sample("x", (IMAGE_ONE,) * 3, turns=(ask, say))
    )
    long = refused(processor(max_length=30), Sample("x", (IMAGE_ONE,), turns=(ask, say)))
    assert "4 of them pictures', and 30 fit: nothing is cut" in long
    assert "no answer" in refused(processor(), Sample("x", (IMAGE_ONE,), turns=(ask,)))
    shown = Turn("user", f"{IMAGE} {IMAGE}")
    assert "2 places (<image>) for 1 pictures" in refused(processor(), Sample("x", (IMAGE_ONE,), turns=(shown, say)))
    assert "neither turns nor a caption" in refused(processor(), Sample("x", (IMAGE_ONE,)))
    assert "nowhere to show it" in refused(processor(), Sample("x", (IMAGE_ONE,), turns=(say,)))
    assert "clip" in refused(processor(), Sample("x", (Clip((IMAGE_ONE,), (0.0,)),), turns=(ask, say)))
    blind = JinjaTemplate(
        "{% for m in messages %}{{ m.role }}: {{ m.content[0].type == 'image' and 'picture' }}<end>{% endfor %}", {}
    )
    assert "leaves 0 places (<image>) for 1 pictures" in refused(
        processor(blind), Sample("x", (IMAGE_ONE,), turns=(ask, say))
    )
    with pytest.raises(ConfigError, match="does not fit conversations of 4"):
        ConversationConfig(ImagePreprocessing(32), slots=4, max_length=4)


def test_templates_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        JinjaTemplate("{% for %}", {})
    strict = JinjaTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(DataError, match="roles must alternate"):
        strict.render(TALK, opens=False)
    shuffled = JinjaTemplate("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", {})
    with pytest.raises(DataError, match="x: the chat template renders a beginning otherwise"):
        rendered(shuffled, TALK, "x")


@pytest.mark.parametrize("where", ["jinja", "settings", "named"])
def test_templates_are_read_from_folders(tmp_path: Path, where: str) -> None:
    assert read_template(tmp_path) is None
    settings: dict[str, Any] = {"bos_token": {"content": "<start>"}, "eos_token": "<end>"}
    if where == "jinja":
        (tmp_path / "chat_template.jinja").write_text(CHATML)
    else:
        settings["chat_template"] = CHATML if where == "settings" else [{"name": "default", "template": CHATML}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = read_template(tmp_path)
    assert found is not None and found.render(TALK, opens=True) == TEMPLATES["jinja"].render(TALK, opens=True)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match="truncated"):
        read_template(tmp_path)
