"""Our VisualBERT against `transformers`' VisualBertForPreTraining: float64, every parameter random, with pads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_public import assert_equal, compare_gradients, insensitive
from tiny_visualbert import CONTEXT, HF, REGION_WIDTH, Inputs, inputs, tiny_visualbert
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError, DataError
from diptych.data.image_text import TextPreprocessing
from diptych.data.images import ImagePreprocessing
from diptych.data.region_text import RegionTextConfig, RegionTextProcessor
from diptych.data.text import Tokenizer
from diptych.layers.bert import BertConfig
from diptych.layers.feature_map import ConvMapConfig
from diptych.models.early_fusion._visualbert_module import Seen, VisualBert, asked_places
from diptych.models.early_fusion._visualbert_public import transformers_visualbert
from diptych.models.early_fusion.visualbert import Config, VisualBertPredictor, weights_from
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


def test_what_is_exported_is_read_as_the_same_model(tmp_path: Path) -> None:
    predictor = small_predictor(box_geometry=False)
    folder = export(predictor, tmp_path / "out")
    theirs, info = HF.VisualBertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    pictures = [torch.full((40, 30, 3), value, dtype=torch.uint8).numpy() for value in (0, 100, 250)]
    texts = ["a red dog", "blue", "a small cat under the red house"]
    features, counts = predictor.region_features(pictures)
    batch = HF.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs.eval()(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], visual_embeds=features,
            visual_attention_mask=(torch.arange(features.shape[1]) < counts[:, None]).long(),
        ).seq_relationship_logits  # fmt: skip
    torch.testing.assert_close(
        predictor.score_pairs(pictures, texts), logits[:, 0] - logits[:, 1], atol=1e-5, rtol=1e-4
    )
    again = load(folder)
    assert isinstance(again, VisualBertPredictor)
    torch.testing.assert_close(again.score_pairs(features, texts), logits[:, 0] - logits[:, 1], atol=1e-5, rtol=1e-4)
    assert again.processor.tokenizer.mask_id == predictor.processor.tokenizer.mask_id


def small_predictor(box_geometry: bool) -> VisualBertPredictor:
    tokenizer = Tokenizer.fit(["a red dog", "blue", "a small cat under the red house"] * 3, 300, mask=True)
    image = ImagePreprocessing(32, resize="squash", views=None)
    processor = RegionTextProcessor(RegionTextConfig(image, TextPreprocessing(20)), tokenizer)
    text = BertConfig(tokenizer.vocab_size, context=20, width=24, depth=2, heads=3, hidden=40)
    config = Config(text, region_width=13, features=ConvMapConfig(16), box_geometry=box_geometry)
    torch.manual_seed(0)
    module = VisualBertPredictor.build(config, processor).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return VisualBertPredictor(config, processor, module, "small")


def test_box_geometry_has_no_place_in_the_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embeds no box geometry"):
        export(small_predictor(box_geometry=True), tmp_path / "out")


def test_a_public_model_is_given_features_and_says_so(tmp_path: Path) -> None:
    tiny_visualbert(tmp_path)
    predictor = weights_from(tmp_path)
    with pytest.raises(DataError, match=rf"no region extractor: give region features.*regions, {REGION_WIDTH}\]"):
        predictor.score_pairs([torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()], ["a dog"])
    with pytest.raises(DataError, match=rf"float tensor \[N, regions, {REGION_WIDTH}\]: got torch.float32 \[1, 4, 7\]"):
        predictor.score_pairs(torch.zeros(1, 4, 7), ["a dog"])
    assert predictor.processor.config.text.max_length == CONTEXT


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_that_leaves_out_the_defaults_is_read_with_those_of_transformers(tmp_path: Path) -> None:
    theirs, given = tiny_visualbert(tmp_path), inputs()
    plain = json.loads((tmp_path / "config.json").read_text())
    assert plain.pop("hidden_act") == "gelu" and plain.pop("layer_norm_eps") == 1e-12
    assert plain.pop("type_vocab_size") == 2
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with torch.no_grad():
        assert_equal(ours(ours_of(tmp_path), given)[1], theirs(**given.theirs()).seq_relationship_logits)


def test_folders_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    tiny_visualbert(tmp_path)
    edit(tmp_path, bypass_transformer=True)
    with pytest.raises(ConfigError, match="bypass_transformer"):
        weights_from(tmp_path)
    edit(tmp_path, bypass_transformer=False, visual_embedding_dim=12)
    with pytest.raises(CheckpointError, match=r"embeddings\.projection\.weight is not of the shape"):
        weights_from(tmp_path)
    edit(tmp_path, visual_embedding_dim=REGION_WIDTH, vocab_size=12)
    with pytest.raises(CheckpointError, match="its tokenizer has 17 tokens, its weights 12"):
        weights_from(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="bert-base-uncased"):
        weights_from(tmp_path)


def test_tied_heads_that_older_files_hold_twice_must_be_equal(tmp_path: Path) -> None:
    tiny_visualbert(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    bias, words = weights["cls.predictions.bias"], weights["visual_bert.embeddings.word_embeddings.weight"]
    twice = weights | {"cls.predictions.decoder.bias": bias.clone(), "cls.predictions.decoder.weight": words.clone()}
    save_file(twice, tmp_path / "model.safetensors")
    weights_from(tmp_path)
    save_file(twice | {"cls.predictions.decoder.weight": words + 1}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="heads of their own are not read here"):
        weights_from(tmp_path)
