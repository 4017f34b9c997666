"""What `diptych export` writes: `transformers` reads it as the same model, and so do we."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
import transformers
from PIL import Image as Pillow
from safetensors.torch import load_file
from tiny_public import CAPTIONS, photograph, randomise, tiny_clip, tiny_siglip, tiny_vit
from torch import Tensor, nn

from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.cli import main
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.text_transformer import TextConfig
from diptych.layers.transformer import Activation
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.contrastive import clip, siglip
from diptych.models.contrastive._two_towers import TwoTowerPredictor

HF: Any = transformers  # its loaders are not annotated
KINDS = ("clip", "siglip")
VISION = VisionConfig(24, 8, width=30, depth=2, heads=3, hidden=44)
TEXT = TextConfig(300, 20, width=32, depth=2, heads=2, hidden=48)
M = TypeVar("M", bound=nn.Module)
TOKENIZER = Tokenizer.fit(CAPTIONS, 300)


def clip_of(vision: dict[str, Any] | None = None, **text: Any) -> clip.ClipPredictor:
    """A CLIP with random weights; switches of either tower may be changed."""
    sizes = replace(VISION, **{"pre_norm": True, "patch_bias": False, "eps": 1e-5} | (vision or {}))
    config = clip.Config(sizes, replace(TEXT, **text), width=18)
    image = ImagePreprocessing(24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(16)), TOKENIZER)
    module = _random(clip.ClipPredictor.build(config, processor))
    return clip.ClipPredictor(config, processor, module, "small")


def siglip_of(vision: dict[str, Any] | None = None, **text: Any) -> siglip.SiglipPredictor:
    """A SigLIP with random weights that reads constant padding."""
    sizes = replace(VISION, **{"pooling": "map", "activation": Activation.GELU_TANH} | (vision or {}))
    words: dict[str, Any] = {
        "causal": False,
        "padding": "constant",
        "activation": Activation.GELU_TANH,
        "eps": 1e-6,
    } | text
    config = siglip.Config(sizes, replace(TEXT, **words))
    image = ImagePreprocessing(24, resize="squash", mean=(0.5,) * 3, std=(0.5,) * 3, kernel="bilinear", views=None)
    settings = ImageTextConfig(image, TextPreprocessing(16, pad_to_max=words["padding"] == "constant"))
    processor = ImageTextProcessor(settings, TOKENIZER)
    module = _random(siglip.SiglipPredictor.build(config, processor))
    return siglip.SiglipPredictor(config, processor, module, "small")


def _random(module: M) -> M:
    randomise(module)
    return module.eval()


def exported(predictor: TwoTowerPredictor, folder: Path) -> Path:
    """Through the command line, as a user does it."""
    (folder / "ours").mkdir()
    write_model(predictor, folder / "ours")
    assert main(["export", str(folder / "ours"), str(folder / "public")]) == 0
    return folder / "public"


def refusal(predictor: TwoTowerPredictor, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence of an export that is refused; nothing is left behind."""
    (folder / "ours").mkdir()
    write_model(predictor, folder / "ours")
    assert main(["export", str(folder / "ours"), str(folder / "public")]) == 2
    assert [path.name for path in folder.iterdir()] == ["ours"]
    return " ".join(capsys.readouterr().err.split())


def make(kind: str) -> TwoTowerPredictor:
    return clip_of() if kind == "clip" else siglip_of()


def read_by_transformers(folder: Path) -> Any:
    model, found = HF.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_computes_the_same_logits_from_the_same_picture_and_captions(kind: str, tmp_path: Path) -> None:
    """The whole way on both sides: their processor and model, our predictor."""
    predictor = make(kind)
    folder = exported(predictor, tmp_path)
    model = read_by_transformers(folder)
    processor: Any = HF.AutoProcessor.from_pretrained(folder, backend="pil")
    square = photograph(24, 24)
    padding = "max_length" if kind == "siglip" else True
    inputs = processor(images=Pillow.fromarray(square), text=list(CAPTIONS), return_tensors="pt", padding=padding)
    assert ("attention_mask" in inputs) == (kind == "clip")  # where padding is read there is none
    with torch.no_grad():
        expected = model(**inputs).logits_per_image
    image_1D, text_ND = predictor.encode_image([square]), predictor.encode_text(list(CAPTIONS))
    found = predictor.module.get_parameter("log_scale").detach().exp() * image_1D @ text_ND.T
    if kind == "siglip":
        found = found + predictor.module.get_parameter("bias").detach()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_their_tokenizer_gives_our_tokens(kind: str, tmp_path: Path) -> None:
    predictor = make(kind)
    tokenizer: Any = HF.AutoTokenizer.from_pretrained(exported(predictor, tmp_path))
    texts = [*CAPTIONS, "Ünknown WORDS, <end> in them", "the " * 40]
    padding = "max_length" if kind == "siglip" else True
    theirs = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt", return_attention_mask=True)
    tokens_NT, lengths_N = predictor.processor.tokens([*CAPTIONS, "Ünknown WORDS, in them", "the " * 40])
    keep = [i for i in range(len(texts)) if "<end>" not in texts[i]]  # theirs takes a spelled-out token for the token
    assert tokens_NT.shape == theirs.input_ids.shape
    assert torch.equal(tokens_NT[keep], theirs.input_ids[keep])
    assert theirs.attention_mask.sum(1)[keep].tolist() == lengths_N[keep].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(24, 24), (41, 77), (90, 50)])
def test_their_image_processor_gives_our_pixels(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    predictor = make(kind)
    images: Any = HF.AutoImageProcessor.from_pretrained(exported(predictor, tmp_path), backend="pil")
    picture = photograph(*size)
    theirs = images(Pillow.fromarray(picture), return_tensors="pt").pixel_values
    ours = predictor.module.normalise(predictor.processor.pixels([picture]))
    one_level = 1 / 255 / 0.2
    assert theirs.shape == ours.shape == (1, 3, 24, 24)
    difference = (theirs - ours).abs()
    assert float(difference.max()) < 1.01 * one_level
    assert float(difference.mean()) < 0.1 * one_level


def test_their_siglip_processor_cuts_the_centre_when_ours_does(tmp_path: Path) -> None:
    predictor = siglip_of()
    image = replace(predictor.processor.config.image, resize="shorter_crop", kernel="bicubic")
    predictor.processor.config = replace(predictor.processor.config, image=image)
    images: Any = HF.AutoImageProcessor.from_pretrained(exported(predictor, tmp_path), backend="pil")
    theirs = images(Pillow.fromarray(photograph(41, 77)), return_tensors="pt").pixel_values
    ours = predictor.module.normalise(predictor.processor.pixels([photograph(41, 77)]))
    assert theirs.shape == ours.shape
    assert float((theirs - ours).abs().max()) < 1.01 / 255 / 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_exported_is_read_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    predictor = make(kind)
    again = load(exported(predictor, tmp_path))
    assert type(again) is type(predictor)
    assert isinstance(again, TwoTowerPredictor)
    before, after = predictor.module.state_dict(), again.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.config == predictor.config
    image = replace(again.processor.config.image, views=None)  # how it was trained is not in the format
    assert replace(again.processor.config, image=image) == predictor.processor.config
    assert torch.equal(again.encode_text(list(CAPTIONS)), predictor.encode_text(list(CAPTIONS)))
    assert torch.equal(again.encode_image([photograph()]), predictor.encode_image([photograph()]))


@pytest.mark.parametrize("reference", [tiny_clip, tiny_siglip])
def test_a_public_folder_comes_out_as_it_went_in(reference: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    reference(source)
    assert main(["export", str(source), str(tmp_path / "out")]) == 0
    before, after = load_file(source / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "out", source))
    for side in ("text_config", "vision_config"):
        for name, value in ours[side].items():
            if not name.endswith("token_id") and name != "projection_dim":  # the towers' own are not read
                assert theirs[side][name] == value, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_is_true_and_its_example_runs(kind: str, tmp_path: Path) -> None:
    predictor = make(kind)
    folder = exported(predictor, tmp_path)
    card = (folder / "README.md").read_text()
    weights = load_file(folder / "model.safetensors").values()
    count = re.search(r"of ([\d,]+) parameters", card)
    assert count is not None and int(count[1].replace(",", "")) == sum(tensor.numel() for tensor in weights)
    assert "Pictures: 24 pixels" in card
    assert "trained with" not in card  # public weights are exported too
    code = re.search(r"```python\n(.*?)```", card, re.S)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1].replace("this/folder", str(folder)), names)
    found: Tensor = names["text_features"].detach()
    expected = predictor.encode_text(["a text"])
    torch.testing.assert_close(torch.nn.functional.normalize(found, dim=-1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("vision", "text"),
    [
        ({"pooling": "mean"}, {}),
        ({"pooling": "map"}, {}),
        ({"pre_norm": False}, {}),
        ({"patch_bias": True}, {}),
        ({}, {"causal": False}),
    ],
)
def test_a_clip_that_clipmodel_cannot_express_is_refused(
    vision: dict[str, Any], text: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(clip_of(vision, **text), tmp_path, capsys)
    assert "CLIPModel has a class token, a norm before its blocks, and causal text only" in said


@pytest.mark.parametrize(
    ("vision", "text"), [({"pooling": "cls"}, {}), ({"pre_norm": True}, {}), ({"patch_bias": False}, {}),
    ({}, {"causal": True})]
)  # fmt: skip
def test_a_siglip_that_siglipmodel_cannot_express_is_refused(
    vision: dict[str, Any], text: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "SiglipModel has attention pooling" in refusal(siglip_of(vision, **text), tmp_path, capsys)


def test_a_siglip_that_ignores_padding_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SiglipModel pools at the last position, which in a batch of two texts is padding."""
    said = refusal(siglip_of(padding="ignored"), tmp_path, capsys)
    assert "reads padding as text" in said and "--model.text.padding constant" in said


def test_an_end_token_of_id_two_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CLIPModel would look for the highest id of each text instead."""
    predictor = clip_of()
    backend = TOKENIZER.backend
    predictor.processor.tokenizer = Tokenizer(backend, 0, 2, 1)
    assert "end token of id 2" in refusal(predictor, tmp_path, capsys)


def test_a_model_without_a_public_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    tiny_vit(source)
    assert main(["export", str(source), str(tmp_path / "out")]) == 2
    assert "has no Hugging Face format" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported(clip_of(), tmp_path)
    before = (folder / "README.md").read_text()
    assert main(["export", str(tmp_path / "ours"), str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (folder / "README.md").read_text() == before
