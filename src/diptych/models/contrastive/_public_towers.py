"""What a public two-tower folder holds, in our terms, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from diptych.data.batches.image_text import ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.modified_resnet import ResNetConfig
from diptych.layers.text_transformer import TextConfig
from diptych.layers.vision_transformer import VisionConfig
from diptych.models import _weight_tables as tables
from diptych.models._public_folder import read_json
from diptych.models.contrastive._two_towers import TwoTowers


@dataclass(frozen=True)
class PublicTowers:
    """What a folder holds, in our terms.

    Attributes:
        width: of the joint space.
        state: our state dict.
    """

    vision: VisionConfig | ResNetConfig
    text: TextConfig
    width: int
    state: dict[str, Tensor]
    processor: ImageTextProcessor

    def fill(self, module: TwoTowers, where: Path) -> None:
        """Loads the weights strictly.

        Raises:
            CheckpointError: a weight has another shape than the folder's configuration says.
        """
        tables.load_into(module, self.state, where)


def processor_of(folder: Path, image: ImagePreprocessing, text: TextConfig) -> ImageTextProcessor:
    """The preprocessing and the tokenizer of a folder, for a text tower."""
    path = folder / "tokenizer_config.json"
    limit = read_json(path).get("model_max_length") if path.is_file() else None
    words = TextPreprocessing(int(min(limit or text.context, text.context)), pad_to_max=text.padding == "constant")
    return ImageTextProcessor(ImageTextConfig(image, words), Tokenizer.from_folder(folder))
