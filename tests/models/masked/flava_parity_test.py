"""Our FLAVA against `transformers`' FlavaForPreTraining: every parameter random, float64, encodings to gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from flava_oracle import PATCHES, captions, mixed_batch, their_inputs, tiny_flava
from tiny_public import CAPTIONS, IMAGE_SIZE, assert_equal, photograph, pixels
from torch import Tensor

from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError
from diptych.core.losses import total
from diptych.data.batches.mixed_pairs import Kind, Masks, MixedBatch, MixedPairsProcessor
from diptych.data.pixels.block_masking import BlockMasking
from diptych.models.masked import _flava_public
from diptych.models.masked._flava_module import Flava
from diptych.models.masked._flava_predictor import PublicFlavaPredictor
from diptych.models.masked._flava_table import flava_entries
from diptych.models.masked._flava_terms import Weights
from diptych.models.masked.flava import FlavaTask, weights_from

TERMS = {"contrastive": "global_contrastive"}
PICTURE_INPUTS = ("pixel_values", "bool_masked_pos", "mim_labels")
TEXT_INPUTS = ("input_ids", "input_ids_masked", "attention_mask", "mlm_labels")
PAIRS = (Kind.MATCHED, Kind.MISMATCHED, Kind.MATCHED, Kind.MATCHED, Kind.MISMATCHED)


def only(inputs: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: inputs[name] for name in names}


def ours_of(folder: Path, weights: Weights | None = None) -> FlavaTask:
    """Our task with the folder's weights, in float64."""
    found = weights_from(folder)
    processor = MixedPairsProcessor(
        found.processor.config, found.processor.tokenizer, found.config.vision.grid,
        Masks(BlockMasking(), mismatched=0.0), None,
    )  # fmt: skip
    task = FlavaTask(found.config, processor, weights)
    task.model.load_state_dict(found.module.state_dict())
    return task.double().eval()


def batch_of(task: FlavaTask, kinds: tuple[Kind, ...]) -> MixedBatch:
    return mixed_batch(kinds, *task.processor.tokens(captions(len(kinds))))


@pytest.mark.parity("flava", "transformers FlavaForPreTraining", "encodings")
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_encodings_are_those_of_transformers(tmp_path: Path, rows: int) -> None:
    theirs, task = tiny_flava(tmp_path), ours_of(tmp_path)
    tokens_BT, lengths_B = task.processor.tokens(captions(rows))
    inside = (torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]).long()
    with torch.no_grad():
        image = theirs.flava.get_image_features(pixels(rows)).pooler_output[:, 0]
        text = theirs.flava.get_text_features(tokens_BT, attention_mask=inside).pooler_output[:, 0]
        assert_equal(task.model.encode_image(pixels(rows)), torch.nn.functional.normalize(image, dim=-1))
        assert_equal(task.model.encode_text(tokens_BT, lengths_B), torch.nn.functional.normalize(text, dim=-1))


@pytest.mark.parity("flava", "transformers FlavaForPreTraining", "multimodal states")
def test_multimodal_states_are_those_of_transformers_at_every_place_that_is_no_padding(tmp_path: Path) -> None:
    theirs, task = tiny_flava(tmp_path), ours_of(tmp_path)
    batch = batch_of(task, PAIRS)
    given = their_inputs(batch, list(range(5)))
    with torch.no_grad():
        expected = theirs.flava(
            input_ids=given["input_ids_masked"], pixel_values=given["pixel_values"],
            attention_mask=given["attention_mask"], bool_masked_pos=given["bool_masked_pos"],
        ).multimodal_embeddings  # fmt: skip
        states = task.model.fuse(batch.pixels_BCHW, batch.hidden_BP, batch.masked_BT, batch.lengths_B)
        found = task.model.fusion.norm_post(states)
    for row, length in enumerate(batch.lengths_B.tolist()):
        assert_equal(found[row, : 2 + PATCHES + length], expected[row, : 2 + PATCHES + length])


@pytest.mark.parity("flava", "transformers FlavaForPreTraining", "losses of pairs")
@pytest.mark.parametrize("kinds", [PAIRS, (Kind.MATCHED,) * 4, (Kind.MISMATCHED, Kind.MATCHED)])
def test_the_four_losses_of_pairs_are_those_of_transformers(tmp_path: Path, kinds: tuple[Kind, ...]) -> None:
    theirs, task = tiny_flava(tmp_path), ours_of(tmp_path)
    batch = batch_of(task, kinds)
    with torch.no_grad():
        expected = theirs(**their_inputs(batch, list(range(len(kinds))))).loss_info
        found = task.losses(batch)
    assert expected.mim is None and expected.mlm is None
    for name in ("contrastive", "itm", "mmm_image", "mmm_text"):
        assert_equal(found[name].value, expected[TERMS.get(name, name)])
    assert found["mim"].count == found["mlm"].count == 0
    assert found["contrastive"].count == kinds.count(Kind.MATCHED)


@pytest.mark.parity("flava", "transformers FlavaForPreTraining", "losses of one side")
def test_the_two_losses_of_one_side_are_those_of_transformers(tmp_path: Path) -> None:
    theirs, task = tiny_flava(tmp_path), ours_of(tmp_path)
    with torch.no_grad():
        pictures = batch_of(task, (Kind.PICTURE,) * 3)
        images = only(their_inputs(pictures, [0, 1, 2]), PICTURE_INPUTS)
        assert_equal(task.losses(pictures)["mim"].value, theirs(**images).loss_info.mim)
        texts = batch_of(task, (Kind.TEXT,) * 4)
        words = only(their_inputs(texts, [0, 1, 2, 3]), TEXT_INPUTS)
        assert_equal(task.losses(texts)["mlm"].value, theirs(**words).loss_info.mlm)


@pytest.mark.parity("flava", "transformers FlavaForPreTraining", "every gradient")
def test_a_mixed_batch_is_the_sum_of_its_kinds_with_the_gradient_of_every_parameter(tmp_path: Path) -> None:
    theirs, task = tiny_flava(tmp_path), ours_of(tmp_path)
    kinds = (Kind.TEXT, *PAIRS, Kind.PICTURE, Kind.TEXT, Kind.PICTURE)
    batch = batch_of(task, kinds)
    pairs, pictures, texts = [1, 2, 3, 4, 5], [6, 8], [0, 7]
    both = theirs(**their_inputs(batch, pairs)).loss
    images = only(their_inputs(batch, pictures), PICTURE_INPUTS)
    words = only(their_inputs(batch, texts), TEXT_INPUTS)
    loss = both + theirs(**images).loss + theirs(**words).loss
    loss.backward()
    found = total(task.losses(batch))
    found.backward()  # type: ignore[no-untyped-call]
    assert_equal(found, loss)
    compare_all_gradients(task.model, theirs, tmp_path)


def compare_all_gradients(model: Flava, theirs: torch.nn.Module, where: Path) -> None:
    """Through the table of the weights. Poolers have no gradient on their side, and do not exist on ours."""
    public = {name: p.grad for name, p in theirs.named_parameters() if not name.startswith("image_codebook")}
    without = [name for name, gradient in public.items() if gradient is None]
    assert all(".pooler." in name and name.startswith("flava.") for name in without), without
    kept: dict[str, Tensor] = {name: gradient for name, gradient in public.items() if gradient is not None}
    for name in [name for name in kept if name.endswith("_head.bias")]:  # one tensor under two names
        kept[name.replace(".bias", ".decoder.bias")] = kept.pop(name)
    # Our positions hold the segment too, so its gradient is the sum over positions of theirs.
    segment = kept.pop("flava.text_model.embeddings.token_type_embeddings.weight")
    assert_equal(segment[0], kept["flava.text_model.embeddings.position_embeddings.weight"].sum(0))
    entries = [e for e in flava_entries(3, 2, 2, 2) if not e.ours.startswith("codebook.")]
    expected = _flava_public.tables.read(entries, kept, where)
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert gradient is not None and bool(gradient.abs().max() > 1e-9), name
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-10, msg=name)


def test_matching_scores_and_the_codes_are_those_of_transformers(tmp_path: Path) -> None:
    theirs, task = tiny_flava(tmp_path), ours_of(tmp_path)
    tokens_BT, lengths_B = task.processor.tokens(captions(3))
    inside = (torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]).long()
    raw = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        states = theirs.flava(tokens_BT, pixels(3), inside).multimodal_embeddings
        logits = theirs.itm_head(states)
        hidden = task.model.nothing_hidden(3, torch.device("cpu"))
        fused = task.model.fuse(pixels(3), hidden, tokens_BT, lengths_B)
        assert_equal(task.model.itm(task.model.fusion.norm_post(fused[:, 0])), logits)
        squeezed = raw.double() / 255 * 0.8 + 0.1
        expected = theirs.image_codebook.get_codebook_indices(squeezed)
        codebook = task.model.codebook
        assert codebook is not None
        assert torch.equal(codebook.codes(raw), expected) and len(expected.unique()) > 1
        assert_equal(codebook(squeezed), theirs.image_codebook(squeezed))


def test_the_loaded_predictor_reads_pictures_and_strings_as_transformers_does(tmp_path: Path) -> None:
    theirs = tiny_flava(tmp_path).float()
    predictor = load(tmp_path)
    assert isinstance(predictor, PublicFlavaPredictor) and "fill_image" not in predictor.verbs
    square = torch.from_numpy(photograph(IMAGE_SIZE, IMAGE_SIZE))
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    prepared = ((square / 255 - mean) / std).permute(2, 0, 1)[None].expand(len(CAPTIONS), -1, -1, -1)
    tokens_BT, lengths_B = predictor.processor.tokens(CAPTIONS)
    inside = (torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]).long()
    with torch.no_grad():
        logits = theirs.itm_head(theirs.flava(tokens_BT, prepared, inside).multimodal_embeddings)
        image = theirs.flava.get_image_features(prepared[:1]).pooler_output[:, 0]
        text = theirs.flava.get_text_features(tokens_BT, attention_mask=inside).pooler_output[:, 0]
    found = predictor.score_pairs([square.numpy()] * len(CAPTIONS), list(CAPTIONS))
    torch.testing.assert_close(found, logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(image, text)
    torch.testing.assert_close(predictor.score([square.numpy()], list(CAPTIONS))[0], cosine, rtol=1e-4, atol=1e-4)


def test_a_folder_without_codebook_needs_codes_only_where_they_are_predicted(tmp_path: Path) -> None:
    tiny_flava(tmp_path, codebook=False)
    task = ours_of(tmp_path)
    batch = batch_of(task, PAIRS)
    assert task.losses(batch)["mmm_image"].count > 0  # the batch brings them along
    object.__setattr__(batch, "codes_BP", None)
    with pytest.raises(ConfigError, match="no codebook"):
        task.losses(batch)
    without = ours_of(tmp_path, Weights(mim=0, mmm_image=0))
    assert "mmm_image" not in without.losses(batch)


def test_folders_of_other_shapes_are_refused(tmp_path: Path) -> None:
    theirs = tiny_flava(tmp_path)
    theirs.float()
    theirs.config.text_config.vocab_size += 1
    theirs.config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not of the shape"):
        weights_from(tmp_path)


def test_a_codebook_of_another_size_than_the_heads_is_refused(tmp_path: Path) -> None:
    theirs = tiny_flava(tmp_path)
    theirs.config.image_codebook_config.vocab_size += 1
    theirs.config.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="12 codes, and the heads that predict them 11"):
        weights_from(tmp_path)
