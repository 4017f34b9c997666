"""Public vision-language models through our verbs, against the library's own forward pass and loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from public_vlms import ALL, TEMPLATE, by_hand, greedy_by_hand, llava, picture, read_by_hand
from safetensors.torch import load_file, save_file

from diptych.capabilities.folder import read_model, write_model
from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError, DataError, DiptychError, TextTooLong
from diptych.core.losses import IGNORED
from diptych.core.processor import BadSample
from diptych.core.sample import Sample, Turn
from diptych.core.sampling import TextSampling
from diptych.models.pretrained_backbone import public
from diptych.models.pretrained_backbone._public_files import Public
from diptych.models.pretrained_backbone.llava import LlavaPredictor

ROWS = [
    (picture(0), "what is this?", "a red circle"),
    (picture(1, 60, 30), "", "star"),
    (None, "a red", "two"),
    (picture(2, 20, 90), "the small blue star", "green squares and a circle"),
]


@pytest.fixture(scope="module", params=ALL)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Any]:
    """A name, the library's model and ours, both in float64."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs = ALL[request.param](folder)
    ours = public.weights_from(folder) if request.param == "llava" else load(folder)
    assert isinstance(ours, public.PublicPredictor)
    ours.module.double()
    return request.param, theirs, ours


@pytest.mark.parity("public", "transformers image-text-to-text models", "likelihoods")
def test_likelihoods_are_sums_over_one_forward_pass_of_the_library(model: tuple[str, Any, Any]) -> None:
    name, theirs, ours = model
    shown = [row for row in ROWS if row[0] is not None]
    found = ours.text_likelihood(*zip(*shown, strict=True))
    for (image, asked, said), log, count in zip(shown, found.log_N, found.counts_N, strict=True):
        whole = read_by_hand(name, ours.reader.processor, image, asked, said)
        begin = read_by_hand(name, ours.reader.processor, image, asked, None)["input_ids"].shape[1]
        with torch.no_grad():
            expected = by_hand(theirs, whole, begin)
        assert float(log) == pytest.approx(expected, rel=1e-6)  # rotary angles are float32 on both sides
        assert int(count) == whole["input_ids"].shape[1] - begin > 1


def test_rows_side_by_side_are_what_they_are_alone(model: tuple[str, Any, Any]) -> None:
    _, _, ours = model
    together = ours.text_likelihood(*zip(*ROWS, strict=True))
    for place, row in enumerate(ROWS):
        alone = ours.text_likelihood(*([part] for part in row))
        assert float(alone.log_N) == pytest.approx(float(together.log_N[place]), rel=1e-6)
        assert int(alone.counts_N) == int(together.counts_N[place])
    another = ours.text_likelihood([picture(9)], [ROWS[0][1]], [ROWS[0][2]])
    assert abs(float(another.log_N) - float(together.log_N[0])) > 1e-3, "the picture does not count"


def test_greedy_texts_are_the_likeliest_tokens_of_whole_passes(model: tuple[str, Any, Any]) -> None:
    name, theirs, ours = model
    prompts = [[part for part in (image, asked) if part] for image, asked, _ in ROWS]
    said = ours.generate_text(prompts, TextSampling(6))
    for (image, asked, _), text in zip(ROWS, said, strict=True):
        if image is None:
            continue
        begun = read_by_hand(name, ours.reader.processor, image, asked, None)
        with torch.no_grad():
            expected = greedy_by_hand(theirs, begun, set(ours.reader.ends), 6)
        assert text == ours.reader.words(expected)
        found = theirs.generate(**begun, max_new_tokens=6, do_sample=False, eos_token_id=sorted(ours.reader.ends))
        assert text == ours.reader.words(found[0, begun["input_ids"].shape[1] :].tolist())


def test_draws_and_beams_do_not_depend_on_the_batch(model: tuple[str, Any, Any]) -> None:
    _, _, ours = model
    prompts = [[part for part in (image, asked) if part] for image, asked, _ in ROWS]
    for sampling in (TextSampling(5, temperature=1.0), TextSampling(5, beams=3)):
        together = ours.generate_text(prompts, sampling, [1, 2, 3, 4])
        assert together == [ours.generate_text([one], sampling, [seed])[0] for seed, one in enumerate(prompts, 1)]


def test_a_saved_model_says_the_same(model: tuple[str, Any, Any], tmp_path: Path) -> None:
    _, _, ours = model
    write_model(ours, tmp_path)
    again = read_model(tmp_path)
    again.module.double()
    before, after = (one.text_likelihood(*zip(*ROWS, strict=True)).log_N for one in (ours, again))
    torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-6)  # a folder holds float32


def test_the_architecture_says_who_reads_a_folder(tmp_path: Path) -> None:
    llava(tmp_path / "plain")
    assert isinstance(load(tmp_path / "plain"), LlavaPredictor)
    assert isinstance(public.weights_from(tmp_path / "plain"), public.PublicPredictor)
    llava(tmp_path / "two", layer=[-2, -1])
    with pytest.raises(ConfigError, match="several layers"):
        load(tmp_path / "two")
    assert public.weights_from(tmp_path / "two").answer([picture(0)], ["what?"])


def test_an_end_that_the_template_leaves_out_is_said(tmp_path: Path) -> None:
    """As LLaVA-1.5's does: else an answer and its beginning were one text."""
    theirs = llava(tmp_path, end="")
    ours = public.weights_from(tmp_path)
    ours.module.double()
    image, asked, said = ROWS[0]
    whole = f"user: <image>{asked}assistant: {said}<end>"  # nor a new line: the library leaves one behind a tag out
    inputs = ours.reader._tensors(whole, [image], "by hand")
    inputs["pixel_values"] = inputs["pixel_values"].double()
    count = int(ours.text_likelihood([image], [asked], [said]).counts_N)
    with torch.no_grad():
        expected = by_hand(theirs, inputs, inputs["input_ids"].shape[1] - count)
    found = ours.text_likelihood([image], [asked], [said])
    assert float(found.log_N) == pytest.approx(expected, rel=1e-6)
    assert inputs["input_ids"][0, -1] == ours.reader.tokenizer.eos_token_id


def talk(*turns: str, pictures: int = 1, key: str = "mine") -> Sample:
    roles = ("user", "assistant")
    said = tuple(Turn(roles[place % 2], text) for place, text in enumerate(turns))  # type: ignore[arg-type]
    return Sample(key, visuals=tuple(picture(seed) for seed in range(pictures)), turns=said)


def task_in(folder: Path) -> tuple[Any, public.PublicTask]:
    theirs = llava(folder)
    read = public.weights_from(folder)
    return theirs, public.PublicTask(public.Config(), Public(read.module.double(), read.reader.processor))


@pytest.mark.parity("public", "transformers image-text-to-text models", "loss, gradients")
def test_the_loss_and_its_gradients_are_the_library_s(tmp_path: Path) -> None:
    theirs, task = task_in(tmp_path)
    samples = [talk("what is this?", "a red circle"), talk("", "two", "and this?", "a small star", key="other")]
    rows = [task.processor.prepare(sample, None, {}) for sample in samples]
    labels = [task.processor.reader.words([one for one in row.labels_1T[0].tolist() if one != IGNORED]) for row in rows]
    assert labels == ["a red circle", "two a small star"]
    task.losses(task.processor.collate(("a", "b"), {}, rows))["answers"].sum.backward()
    total = 0.0
    for row in rows:
        inputs = {name: one.double() if one.is_floating_point() else one for name, one in row.inputs.items()}
        count = int((row.labels_1T != IGNORED).sum())
        loss = theirs(**inputs, labels=row.labels_1T).loss * count
        loss.backward()
        total += float(loss)
    assert float(task.losses(task.processor.collate(("a", "b"), {}, rows))["answers"].sum) == pytest.approx(total)
    own = dict(task.model.named_parameters())
    learned = [name for name, parameter in own.items() if parameter.requires_grad]
    assert learned and not any("vision_tower" in name for name in learned)
    for name, parameter in theirs.named_parameters():
        if name in learned:
            torch.testing.assert_close(own[name].grad, parameter.grad, rtol=1e-4, atol=5e-6, msg=name)


def test_samples_that_cannot_be_read_are_named_with_their_numbers(tmp_path: Path) -> None:
    _, task = task_in(tmp_path)
    prepare = task.processor.prepare
    for sample, said in (
        (talk("<image> and?", "a", pictures=2), "mine: no place for a picture .1 places .* for 2 pictures"),
        (talk("what", "a " * 300), r"mine: conversation too long .3\d\d tokens with 1 pictures, and 256 fit"),
        (talk("say <end> now", "a"), "mine: control token in a turn .somebody says '<end>'"),
        (talk("<image>?", "a", "<image>?", "b", pictures=2), "mine: an answer before a picture"),
        (Sample("mine", visuals=(picture(0),)), "mine: no conversation"),
    ):
        with pytest.raises(BadSample, match=said):
            prepare(sample, None, {})
    with pytest.raises(DataError, match="mine: a conversation with no answer"):
        prepare(talk("what is this?"), None, {})


def test_prompts_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    llava(tmp_path)
    ours = public.weights_from(tmp_path)
    with pytest.raises(TextTooLong, match=r"3\d\d tokens with 1 pictures, and 256 fit"):
        ours.text_likelihood([picture(0)], ["what"], ["a " * 300])
    with pytest.raises(DiptychError, match="'<end>', which only the template may"):
        ours.generate_text([[picture(0), "say <end>"]])


def test_folders_that_cannot_be_talked_to_are_refused(tmp_path: Path) -> None:
    llava(tmp_path)
    template = tmp_path / "chat_template.jinja"
    template.write_text(TEMPLATE % ("", "<end>"))
    with pytest.raises(DiptychError, match=r"leaves 0 places .<image>. for 1 pictures"):
        public.weights_from(tmp_path).answer([picture(0)], ["what?"])
    template.write_text("{{ raise_exception('no') }}")
    with pytest.raises(DiptychError, match="cannot render"):
        public.weights_from(tmp_path).answer([picture(0)], ["what?"])
    template.unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        public.weights_from(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in weights if "projector" in name)
    save_file({name: one for name, one in weights.items() if name != gone}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks weights of its own model: .*projector"):
        public.weights_from(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read as the model"):
        public.weights_from(tmp_path)


def test_paligemma_sees_before_it_reads(tmp_path: Path) -> None:
    ALL["paligemma"](tmp_path)
    ours = load(tmp_path)
    with pytest.raises(DiptychError, match="sees pictures before it reads any word"):
        ours.generate_text([["a red circle", picture(0)]])
