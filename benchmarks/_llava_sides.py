"""One LLaVA on both sides: transformers' LlavaForConditionalGeneration, and ours from the folder it writes."""

from __future__ import annotations

import copy
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import tokenizers
import torch
from torch import Tensor

from _conversation_steps import Step, library_step, trainer_step
from _llama_sides import VOCABULARY, Size
from diptych.core.losses import IGNORED
from diptych.core.sampling import TextSampling
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.data.words.tokenizer import Tokenizer
from diptych.decoding.write import write
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._prefixed import Trained

START, END, PAD, PICTURE = 0, 1, 2, VOCABULARY - 1


@dataclass(frozen=True)
class Sizes:
    """Of both towers.

    Attributes:
        side, patch: of a picture in pixels.
    """

    side: int
    patch: int
    vision: Size
    language: Size

    @property
    def slots(self) -> int:
        """Tokens of a picture."""
        return (self.side // self.patch) ** 2


def their_model(package: ModuleType, sizes: Sizes) -> Any:
    """With fresh weights, the same at every call, wide enough in the language model that no two logits tie."""
    config = package.LlavaConfig(
        vision_config=package.CLIPVisionConfig(
            image_size=sizes.side, patch_size=sizes.patch, **_plain(sizes.vision), projection_dim=sizes.vision.width
        ),
        text_config=package.LlamaConfig(
            **_plain(sizes.language), vocab_size=VOCABULARY, max_position_embeddings=1024, rms_norm_eps=1e-5,
            bos_token_id=START, eos_token_id=END, pad_token_id=PAD, tie_word_embeddings=False,
        ),
        image_token_index=PICTURE,
    )  # fmt: skip
    torch.manual_seed(0)
    model = package.LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.model.language_model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    model.generation_config.eos_token_id = None
    return model


def _plain(size: Size) -> dict[str, int]:
    return {
        "hidden_size": size.width, "num_hidden_layers": size.depth, "num_attention_heads": size.heads,
        "intermediate_size": size.hidden,
    }  # fmt: skip


def our_model(theirs: Any, sizes: Sizes) -> llava.LlavaPredictor:
    """Ours, from a folder that theirs is written to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs.save_pretrained(folder)
        vocabulary = {str(index): index for index in range(VOCABULARY)}
        backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="4"))
        Tokenizer(backend, START, END, PAD).write(folder / "tokenizer.json")
        crop = {"do_center_crop": True, "crop_size": {"height": sizes.side, "width": sizes.side}}
        plain = {"size": {"shortest_edge": sizes.side}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, **crop}
        (folder / "preprocessor_config.json").write_text(json.dumps(plain), encoding="utf-8")
        return llava.weights_from(folder)


def conversations(count: int, size: int, sizes: Sizes, mean: int = 16, longest: int = 60) -> list[ConversationBatch]:
    """A picture, 8 to 24 tokens that are told, and an answer of 4 tokens or more, of unlike length.

    Args:
        mean, longest: of the answers; exponentially spread.
    """
    generator = torch.Generator().manual_seed(0)
    return [_conversations(size, sizes, generator, mean, longest) for _ in range(count)]


def _conversations(size: int, sizes: Sizes, generator: torch.Generator, mean: int, longest: int) -> ConversationBatch:
    told_B = torch.randint(8, 25, (size,), generator=generator)
    said_B = (4 + torch.empty(size).exponential_(1 / (mean - 4), generator=generator)).long().clamp(max=longest)
    lengths_B = 1 + sizes.slots + told_B + said_B
    places_T = torch.arange(int(lengths_B.max()))
    tokens_BT = torch.randint(4, PICTURE, (size, len(places_T)), generator=generator)
    tokens_BT[:, 0] = START
    shown_BT = ((places_T > 0) & (places_T <= sizes.slots)).expand(size, -1)
    tokens_BT = tokens_BT.masked_fill(shown_BT, PICTURE).masked_fill(places_T >= lengths_B[:, None], PAD)
    answers_BT = (places_T >= (lengths_B - said_B)[:, None]) & (places_T < lengths_B[:, None])
    pixels_NCHW = torch.randn(size, 3, sizes.side, sizes.side, generator=generator)
    return ConversationBatch(
        tuple(map(str, range(size))), tokens_BT, torch.where(answers_BT, tokens_BT, IGNORED), shown_BT, lengths_B,
        pixels_NCHW, (1,) * size, (0,) * size,
    )  # fmt: skip


def their_step(model: Any) -> Step:
    """Their model's; the tower is frozen."""
    return library_step(model, lambda name: not name.startswith("model.vision_tower."))


def our_step(model: llava.LlavaPredictor, packed: int = 0) -> Step:
    """Ours."""
    module = copy.deepcopy(model.module)
    task = llava.LlavaTask(model.config, model.processor, module.tower, module.language, Trained(language=True), packed)
    task.model.connector.load_state_dict(module.connector.state_dict())
    return trainer_step(task)


def prompts(count: int, words: int, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """tokens_NT: a start, a picture, words; and the pictures."""
    generator = torch.Generator().manual_seed(1)
    tokens_NT = torch.randint(4, PICTURE, (count, 1 + sizes.slots + words), generator=generator)
    tokens_NT[:, 0], tokens_NT[:, 1 : 1 + sizes.slots] = START, PICTURE
    return tokens_NT, torch.randn(count, 3, sizes.side, sizes.side, generator=generator)


def their_tokens(model: Any, tokens_NT: Tensor, pixels_NCHW: Tensor, count: int) -> list[list[int]]:
    """What transformers writes, greedily."""
    with torch.inference_mode():
        all_NT = model.generate(
            input_ids=tokens_NT, pixel_values=pixels_NCHW, attention_mask=torch.ones_like(tokens_NT),
            max_new_tokens=count, do_sample=False, pad_token_id=PAD,
        )  # fmt: skip
    found: list[list[int]] = all_NT[:, tokens_NT.shape[1] :].tolist()
    return found


def our_tokens(model: llava.LlavaPredictor, tokens_NT: Tensor, pixels_NCHW: Tensor, count: int) -> list[list[int]]:
    """What we write."""
    module = model.module
    with torch.inference_mode():
        x_NTD = module.language.embed(tokens_NT)
        shown_NT1 = (tokens_NT == PICTURE)[..., None]
        x_NTD = x_NTD.masked_scatter(shown_NT1, module.see(pixels_NCHW).flatten(0, 1))
        decoder = module.language.decoder(list(x_NTD), tokens_NT.shape[1] + count)
        return write(decoder, [count] * len(tokens_NT), TextSampling(count), ends=())
