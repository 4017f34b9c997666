"""BLIP-2, second stage: the Q-Former's queries are a soft prompt of a frozen language model.

Li et al. 2023, "BLIP-2", arXiv 2301.12597, section 3.2. Norm and Q-Former of the first stage (blip2.py) and a linear
map are trained; tower and language model stay as they are. A causal language model reads the prompt and the text, and
is taught the text; of an encoder-decoder the encoder reads the prompt, and the decoder is taught the text.

Departure from the paper: what is asked stands in a conversation (data/batches/conversations.py), so captions, questions
and dialogues train alike; a caption without a prompt is the paper's case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.capabilities.load import folder_of
from diptych.core.errors import ConfigError
from diptych.core.sample import Sample
from diptych.layers.qformer import QFormerConfig
from diptych.models.pretrained_backbone._blip2_folder import read_folder
from diptych.models.pretrained_backbone._prefix_model import PrefixPredictor, PrefixTask
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.models.pretrained_backbone._qformer_bridge import QFormerBridgeConfig
from diptych.models.pretrained_backbone._tiny_parts import tiny_encoder_decoder, tiny_parts

VERBS = ("generate_text", "text_likelihood", "answer")
READS = ("Blip2ForConditionalGeneration",)


@dataclass(frozen=True)
class Config(QFormerBridgeConfig):
    """A Q-Former of queries alone.

    Raises:
        ConfigError: it has a vocabulary, which nothing would be read with.
    """

    qformer: QFormerConfig = field(default_factory=lambda: QFormerConfig(vocabulary=0))

    def __post_init__(self) -> None:
        if self.qformer.vocabulary:
            raise ConfigError(
                f"BLIP-2's second stage reads no text in its Q-Former, which has {self.qformer.vocabulary} words: set "
                f"qformer.vocabulary to 0, or take instructblip"
            )


class Blip2LmPredictor(PrefixPredictor[Config]):
    """Talks about a picture."""

    VERBS = VERBS
    CONFIG = Config


class Blip2LmTask(PrefixTask[Config]):
    """The second stage; `model.connector.take_first_stage` brings what the first has learned."""

    PREDICTOR = Blip2LmPredictor
    NAME = "blip2_lm"


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, Blip2LmTask]:
    """The second stage at its smallest, on random parts of which the language model is trained too."""
    config = Config(QFormerConfig(4, 64, 2, 2, 128, 32, 2, vocabulary=0), layer=-1, special=1)
    processor, tower, causal = tiny_parts(samples, 4)
    both = tiny_encoder_decoder(processor.tokenizer)
    return {
        "causal": Blip2LmTask(config, processor, tower, causal, Trained(language=True)),
        "encoder_decoder": Blip2LmTask(config, processor, tower, both, Trained(language=True)),
    }


def weights_from(reference: str | Path) -> Blip2LmPredictor:
    """A transformers Blip2ForConditionalGeneration folder or hub id.

    Raises:
        CheckpointError: a file or a weight is missing, left over, or of another shape.
        ConfigError: the folder has a part that is not done here.
    """
    public = read_folder(folder_of(reference), instructed=False)
    config = Config(public.qformer, layer=-1, special=0, normed=False)
    module = Blip2LmPredictor.build(config, public.processor, public.tower, public.language)
    public.fill(module.connector)
    return Blip2LmPredictor(config, public.processor, module.eval(), public.path.name)
