"""Our VisualBERT against `transformers`' VisualBertForPreTraining: float64, every parameter random, with pads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_public import assert_equal, compare_gradients, insensitive
from tiny_visualbert import HF, Inputs, inputs, tiny_visualbert
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.load import load
from diptych.models.early_fusion._visualbert_module import Seen, VisualBert, asked_places
from diptych.models.early_fusion._visualbert_public import transformers_visualbert
from diptych.models.early_fusion.visualbert import VisualBertPredictor, weights_from
from diptych.objectives.masked import masked_positions, token_loss


def ours_of(folder: Path) -> VisualBert:
    module: VisualBert = weights_from(folder).module.double()
    return module


def ours(module: VisualBert, given: Inputs, alignment: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits over words at every place, and of the match."""
    seen = Seen(given.features_BRF, given.counts_B, alignment_BRA=alignment)
    hidden = module(given.tokens_BT, given.lengths_B, seen, types_BT=given.types_BT)
    return module.word_logits(hidden), module.match_logits(hidden[:, 0])


def real(given: Inputs) -> Tensor:
    """[B, T + R]: which places are no padding."""
    masks = given.theirs()
    return torch.cat([masks["attention_mask"], masks["visual_attention_mask"]], dim=1).bool()


@pytest.mark.parity("visualbert", "transformers VisualBertForPreTraining", "logits")
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("act", ["gelu", "gelu_pytorch_tanh"])
def test_logits_of_words_and_match_are_those_of_transformers(tmp_path: Path, batch: int, act: str) -> None:
    theirs, given = tiny_visualbert(tmp_path, hidden_act=act), inputs(batch)
    with torch.no_grad():
        expected = theirs(**given.theirs())
        words, match = ours(ours_of(tmp_path), given)
    assert_equal(words[real(given)], expected.prediction_logits[real(given)])
    assert_equal(match, expected.seq_relationship_logits)


def test_regions_aligned_with_words_have_the_positions_of_transformers(tmp_path: Path) -> None:
    theirs, given = tiny_visualbert(tmp_path), inputs()
    alignment = torch.tensor([[1, 3, -1], [2, -1, -1], [-1, -1, -1], [0, 1, 2], [4, 4, -1]]).expand(3, -1, -1)
    module = ours_of(tmp_path)
    with torch.no_grad():
        expected = theirs(**given.theirs(), image_text_alignment=alignment.clone())
        words, match = ours(module, given, alignment)
        plain, _ = ours(module, given)
    assert_equal(words[real(given)], expected.prediction_logits[real(given)])
    assert_equal(match, expected.seq_relationship_logits)
    assert float((words - plain).abs().max()) > 1e-2


@pytest.mark.parity("visualbert", "transformers VisualBertForPreTraining", "losses, every gradient")
@pytest.mark.parametrize("both", [True, False])
def test_losses_and_gradients_of_every_parameter_are_those_of_transformers(tmp_path: Path, both: bool) -> None:
    theirs, given = tiny_visualbert(tmp_path), inputs()
    labels = {"labels": given.labels()} | ({"sentence_image_labels": given.mismatched_B} if both else {})
    # The word embeddings are used twice, so their gradient has two parts; those of unused rows are zero in both.
    loss = theirs(**given.theirs(), **labels).loss
    loss.backward()
    module = ours_of(tmp_path)
    found = our_loss(module, given, both)
    found.backward()  # type: ignore[no-untyped-call]
    assert_equal(found, loss)
    for name in ("match_head", "pooler"):
        if not both:  # what nothing asks of gets no gradient on either side: filled in for the comparison
            for parameter in module.get_submodule(name).parameters():
                assert parameter.grad is None
    if both:
        compare_gradients(module, theirs, transformers_visualbert(2))


def our_loss(module: VisualBert, given: Inputs, both: bool) -> Tensor:
    """The masked places alone go through the last block and the head, as in training."""
    places, labels = asked_places(given.labels_BT)
    seen = Seen(given.features_BRF, given.counts_B)
    hidden = module(given.tokens_BT, given.lengths_B, seen, F.pad(places, (1, 0)), given.types_BT)
    rows, wanted = masked_positions(hidden[:, 1:], labels)
    loss = token_loss(module.word_logits(rows), wanted) / len(wanted)
    if both:
        loss = loss + token_loss(module.match_logits(hidden[:, 0]), given.mismatched_B) / len(given.mismatched_B)
    return loss


def test_gradients_of_the_region_features_are_those_of_transformers(tmp_path: Path) -> None:
    theirs, given = tiny_visualbert(tmp_path), inputs()
    leaves = [given.features_BRF.clone().requires_grad_() for _ in range(2)]
    labels = {"labels": given.labels(), "sentence_image_labels": given.mismatched_B}
    theirs(**given._replace(features_BRF=leaves[0]).theirs(), **labels).loss.backward()
    our_loss(ours_of(tmp_path), given._replace(features_BRF=leaves[1]), both=True).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(leaves[1].grad, leaves[0].grad, rtol=1e-8, atol=1e-10)


def test_every_parameter_matters(tmp_path: Path) -> None:
    tiny_visualbert(tmp_path)
    module, given = ours_of(tmp_path), inputs()

    @torch.no_grad()
    def outputs() -> Tensor:
        words, match = ours(module, given)
        return torch.cat([words[real(given)].flatten(), match.flatten()])

    assert insensitive(module, outputs) == []


@pytest.mark.parametrize("swap", ["types", "mask", "regions first", "scale"])
def test_a_mistake_in_the_wiring_would_be_seen(tmp_path: Path, swap: str) -> None:
    """The comparison is sharp: a wrong segment, a wrong pad, another order and another size are all found."""
    theirs, given = tiny_visualbert(tmp_path), inputs()
    module = ours_of(tmp_path)
    wrong = {
        "types": given._replace(types_BT=1 - given.types_BT),
        "mask": given._replace(counts_B=given.counts_B - 1),
        "regions first": given._replace(tokens_BT=given.tokens_BT.flip(1)),
        "scale": given._replace(features_BRF=given.features_BRF * 1.001),
    }[swap]
    with torch.no_grad():
        match = ours(module, wrong)[1]
        expected = theirs(**given.theirs()).seq_relationship_logits
    assert float((match - expected).abs().max()) > 1e-5


def test_the_predictor_scores_region_features_as_transformers_does(tmp_path: Path) -> None:
    theirs = tiny_visualbert(tmp_path).float()
    predictor = load(tmp_path)
    assert isinstance(predictor, VisualBertPredictor)
    features = inputs().features_BRF.float()
    texts = ["a red dog on the beach", "cat", "two small house under the blue beach"]
    tokens, lengths = predictor.processor.tokens(texts)
    mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        logits = theirs(input_ids=tokens, attention_mask=mask, visual_embeds=features).seq_relationship_logits
    found = predictor.score_pairs(features, texts)
    torch.testing.assert_close(found, logits[:, 0] - logits[:, 1], rtol=1e-4, atol=1e-5)


def test_the_predictor_fills_in_the_words_that_transformers_finds_likeliest(tmp_path: Path) -> None:
    theirs = tiny_visualbert(tmp_path).float()
    predictor = load(tmp_path)
    assert isinstance(predictor, VisualBertPredictor)
    features = inputs(2).features_BRF.float()
    text = "a [MASK] dog [MASK] the beach"
    found = predictor.fill_text(features, [text, "a [MASK]"])
    words = HF.AutoTokenizer.from_pretrained(tmp_path)
    for row, sentence in enumerate((text, "a [MASK]")):
        ids = words(sentence, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = theirs(input_ids=ids, visual_embeds=features[row : row + 1]).prediction_logits[0]
        places = (ids[0] == words.mask_token_id).nonzero().flatten()
        logits[:, words.all_special_ids] = -torch.inf
        logits[:, predictor.processor.tokenizer.pad_id] = -torch.inf
        assert found[row] == [words.decode([int(logits[place].argmax())]) for place in places]
