"""Checks that towers, processor and options fit together; an error names both numbers."""

from __future__ import annotations

from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.layers.masking import patches_kept
from diptych.layers.modified_resnet import ResNetConfig
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models._check_texts import check_texts
from diptych.models.contrastive._options import PairOptions

Vision = VisionConfig | ResNetConfig


def check_options(options: PairOptions, vision: Vision, text: TextConfig) -> None:
    """Raises a ConfigError when a ratio leaves no patch, or a tower cannot do without what is masked."""
    if isinstance(vision, VisionConfig):
        patches_kept(vision.grid**2, options.masking.image)
    elif options.masking.image:
        raise ConfigError("masking.image drops patches, which a ResNet tower does not have: set it to 0")
    if options.masking.text and text.padding == "constant":
        raise ConfigError(
            f"masking.text {options.masking.text} drops tokens of texts whose padding is read: set masking.text to 0, "
            f"or the text tower's padding to 'ignored'"
        )


def check_one_positive(options: PairOptions) -> None:
    """Raises a ConfigError for a loss in which a picture has one text of its own."""
    if options.same_text:
        raise ConfigError("same_text is for CLIP's softmax; a sigmoid loss asks about one text a picture: leave it off")


def check_fit(vision: Vision, text: TextConfig, processor: ImageTextProcessor) -> None:
    """Raises a ConfigError when a processor makes what the towers cannot take, with both numbers."""
    made, taken = processor.config.image.size, vision.image_size
    if made != taken:
        raise ConfigError(f"the processor makes pictures of {made} pixels, the vision tower takes {taken}")
    check_texts(text, processor.config.text, processor.tokenizer)
    if (text.padding == "constant") != processor.config.text.pad_to_max:
        raise ConfigError("constant padding must be on for both the text tower and the processor, or for neither")
