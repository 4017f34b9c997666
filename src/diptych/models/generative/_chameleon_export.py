"""Chameleon written as transformers' ChameleonForConditionalGeneration folder, with a decoder of pictures beside it.

The codes of pictures and what stands around them become tokens of the text's tokenizer, under the names that the
library looks for. `<image>`, which its processor puts in the place of every code, is the token behind all others, which
no document has. The library has no decoder of pictures: it lies in the folder `vqgan`, from which it is read back here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
from safetensors.torch import save_file
from tokenizers import AddedToken, processors

from diptych.capabilities.card import CARD, begun
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.causal_block import CausalConfig
from diptych.models._public_folder import write_json, write_preprocessing
from diptych.models._weight_tables import write
from diptych.models.generative._chameleon_folder import BEGIN, FINISH, PICTURES, WITH_DECODER, name_of, trunk_entries
from diptych.models.generative._document_layout import Layout
from diptych.models.generative._document_module import DocumentModel
from diptych.models.generative._picture_codes import EncodedPictures, PictureCodes, VitPictures, VqPictures
from diptych.models.image_tokenizer._chameleon_export import lacking, public_state, vq_config

_CLASS, _IMAGE = "ChameleonForConditionalGeneration", "<image>"
_USAGE = """
```python
from PIL import Image
from transformers import AutoProcessor, ChameleonForConditionalGeneration
model = ChameleonForConditionalGeneration.from_pretrained("this/folder")
processor = AutoProcessor.from_pretrained("this/folder")
asked = {"text": "<image>", "return_for_text_completion": True, "return_tensors": "pt"}
inputs = processor(images=Image.open("photo.jpg"), **asked)
said = model.generate(**inputs, max_new_tokens=32)[0, inputs["input_ids"].shape[1]:]
print(processor.decode(said, skip_special_tokens=True))
```

It learned documents, not chats: `return_for_text_completion` keeps the processor from putting the end behind a text.
"""


def write_folder(
    module: DocumentModel, trunk: CausalConfig, codes: PictureCodes, processor: ImageTextProcessor, name: str,
    folder: Path,
) -> None:  # fmt: skip
    """Weights, configuration, preprocessing, tokenizer, card.

    Raises:
        ConfigError: the model has a part that ChameleonForConditionalGeneration does not.
    """
    pictures = _check(trunk, codes)
    layout, words = module.layout, processor.tokenizer
    image = _image_token(layout, words)
    state = module.state_dict()
    rest = {key: one.detach().cpu().float() for key, one in state.items() if not key.startswith("tokenizer.")}
    coder = {key.removeprefix("tokenizer."): one for key, one in state.items() if key.startswith("tokenizer.")}
    sizes = pictures.tokenizer
    public = write(trunk_entries(trunk.depth), rest)
    public |= {f"{PICTURES}{key}": one for key, one in public_state(coder, sizes.autoencoder, decoder=False).items()}
    save_file(public, folder / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": words.start_id, "eos_token_id": words.end_id, "pad_token_id": words.pad_id}
    coded = vq_config(sizes.autoencoder, sizes.quantizer, codes.image_size)
    vocabulary = {_IMAGE: image, BEGIN: layout.begin, FINISH: layout.finish}
    vocabulary |= {name_of(code): layout.first + code for code in range(layout.codes)}
    config = _sizes(trunk, module.context) | ids
    config |= {"vocab_size": layout.size, "vq_config": coded, "vocabulary_map": vocabulary}
    write_json(folder / "config.json", config)
    never = [words.start_id, words.pad_id, layout.begin, layout.finish, image]
    write_json(folder / "generation_config.json", ids | {"suppress_tokens": never})
    if isinstance(pictures, VqPictures):
        (folder / WITH_DECODER).mkdir()
        write_json(folder / WITH_DECODER / "config.json", coded)
        whole = public_state(coder, sizes.autoencoder, decoder=True)
        save_file(whole, folder / WITH_DECODER / "model.safetensors", metadata={"format": "pt"})
    _write_processor(processor, layout, folder)
    count = sum(one.numel() for one in public.values())
    (folder / CARD).write_text(begun(name, _CLASS, count, "transformers", _USAGE, "image-text-to-text"), "utf-8")


def _check(trunk: CausalConfig, codes: PictureCodes) -> VqPictures | EncodedPictures:
    """Refuses what the class cannot be told, by the names of the options."""
    if isinstance(codes, VitPictures):
        raise ConfigError(f"transformers' {_CLASS} makes codes by convolutions, and this model's come from a ViT-VQGAN")
    asked = {
        "head_norm": trunk.head_norm,
        "norm rms": trunk.norm == "rms",
        "gated": trunk.gated,
        "no-bias": not trunk.bias,
        "rotary 10000": trunk.rotary > 0,
    }
    other = [f"--model.trunk.{option}" for option, met in asked.items() if not met]
    of_codes = lacking(codes.tokenizer.autoencoder, codes.tokenizer.quantizer)
    if other := [*other, *(f"--model.codes.tokenizer.{option}" for option in of_codes)]:
        raise ConfigError(f"transformers' {_CLASS} is built otherwise: to be shared, a model has {', '.join(other)}")
    return codes


def _image_token(layout: Layout, words: Tokenizer) -> int:
    """What stands for a code before the picture is seen."""
    if layout.places is not None:
        found = words.backend.token_to_id(_IMAGE)
        if found is None:
            raise ConfigError(f"transformers' {_CLASS} puts {_IMAGE} in a picture's place, and the tokenizer has none")
        return int(found)
    if words.vocab_size != layout.words:
        raise ConfigError(
            f"the model has {layout.words} words and the tokenizer {words.vocab_size}: in transformers' {_CLASS} codes "
            f"are tokens right behind the words (--model.words)"
        )
    return layout.end_of_span


def _sizes(trunk: CausalConfig, context: int) -> dict[str, Any]:
    return {
        "architectures": [_CLASS],
        "model_type": "chameleon",
        "hidden_size": trunk.width,
        "intermediate_size": trunk.hidden,
        "num_hidden_layers": trunk.depth,
        "num_attention_heads": trunk.heads,
        "num_key_value_heads": trunk.key_heads or trunk.heads,
        "max_position_embeddings": context,
        "rms_norm_eps": trunk.eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": trunk.rotary},
        "swin_norm": trunk.norm_after,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }


def _write_processor(processor: ImageTextProcessor, layout: Layout, folder: Path) -> None:
    tokens = processor.tokenizer
    backend = tokenizers.Tokenizer.from_str(tokens.backend.to_str())
    if layout.places is None:
        names = [*(name_of(code) for code in range(layout.codes)), BEGIN, FINISH, _IMAGE]
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        assert backend.token_to_id(_IMAGE) == layout.end_of_span, "tokens are counted on behind the words"
    named = {"bos_token": tokens.start_id, "eos_token": tokens.end_id, "pad_token": tokens.pad_id}
    spelled = {role: tokens.backend.id_to_token(index) for role, index in named.items() if index is not None}
    if "bos_token" in spelled:  # the end is left to the model
        pattern, pieces = f"{spelled['bos_token']} $A", [(spelled["bos_token"], tokens.start_id)]
        backend.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=pieces)
    backend.save(str(folder / "tokenizer.json"))
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "left", "image_token": _IMAGE}
    write_json(folder / "tokenizer_config.json", plain | spelled | {"sep_token": spelled["eos_token"]})
    image = write_preprocessing(processor.config.image, "ChameleonImageProcessor")
    write_json(folder / "preprocessor_config.json", image)
    settings = {"processor_class": "ChameleonProcessor", "image_seq_length": layout.length, "image_token": _IMAGE}
    write_json(folder / "processor_config.json", settings)
