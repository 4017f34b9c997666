"""Random parts at their smallest, for contract tests."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.core.sample import Sample
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.words.chat import PlainTemplate
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import tiny_vision_backbone, transformers_for
from diptych.layers.causal_block import CausalConfig
from diptych.models.pretrained_backbone._encoder_decoder import EncoderDecoder
from diptych.models.pretrained_backbone._llama import Llama, LlamaConfig
from diptych.models.pretrained_backbone._patch_features import PatchFeatures


def tiny_parts(
    samples: Sequence[Sample], slots: int, template: PlainTemplate | None = None, pictures: int = 1
) -> tuple[ConversationProcessor, PatchFeatures, Llama]:
    """A processor whose tokenizer is fitted to the samples, a tower of pictures of 32 pixels, and a language model.

    Args:
        slots: tokens of a picture.
        pictures: the most of a conversation.
    """
    template = template or PlainTemplate(end="<end>")
    said = [turn.text for sample in samples for turn in sample.turns]
    names = f"{template.user} {template.assistant}"
    words = Tokenizer.fit([*said, *(text for sample in samples for text in sample.texts), names], 400)
    image = ImagePreprocessing(32, mean=(0.5,) * 3, std=(0.5,) * 3, views=None)
    processor = ConversationProcessor(ConversationConfig(image, slots, pictures, max_length=256), words, template)
    tower = PatchFeatures(tiny_vision_backbone(32, 32), False, image.mean, image.std)
    sizes = LlamaConfig(CausalConfig(64, 2, 2, 128), words.vocab_size, 512)
    return processor, tower, Llama(sizes)


def tiny_encoder_decoder(words: Tokenizer) -> EncoderDecoder:
    """A random T5 of one block on each side.

    Raises:
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for("an encoder-decoder")
    config = transformers.T5Config(
        vocab_size=words.vocab_size, d_model=64, d_ff=128, d_kv=32, num_layers=1, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=words.pad_id, pad_token_id=words.pad_id, eos_token_id=words.end_id,
    )  # fmt: skip
    return EncoderDecoder(transformers.T5ForConditionalGeneration(config).eval())
