"""MiniGPT-5: a language model says vokens, and what it means by them tells a frozen diffusion model what to draw.

Zheng et al. 2023, "MiniGPT-5: Interleaved Vision-and-Language Generation via Generative Vokens", arXiv 2310.02239. K
vokens stand beside the words of a frozen language model; the states by which they are said go through a mapper
(_voken_mapper.py) into the space of texts that a frozen latent diffusion model (generative/stable_diffusion.py) reads.
Three losses, weighted 0.01, 1 and 0.1 as in the released code:

    text       -log p of what the assistant says, vokens included
    denoising  the error of the noise in the picture's latents, told what is mapped
    caption    the mean square between what is mapped and the frozen text tower's states of the caption (on padding
               too where the tower reads it, as the released ones do)

Two stages: alignment, on captions, trains vokens and mapper; then documents or conversations with pictures anywhere in
them, by LoRA in the language model, with the mapper's first maps and its queries as they are and no caption loss. In a
tenth of the samples the states are 0 (and the caption ""), by which pictures are guided when they are drawn.

Departures: vokens have rows of their own instead of being put back after each step; LoRA has no dropout, and on our own
trunk its A is shared by keys and values. As in the released code the states are those that say the vokens, one token
before they are read.

B batch, T tokens, A places at which something is said, N pictures, K vokens, D width of the language model, X of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from diptych.core.losses import IGNORED, Losses, Part
from diptych.core.sample import Sample
from diptych.core.task import ParamGroup, Task, decay_groups
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.models.generative import stable_diffusion
from diptych.models.generative._caption_dropout import untold, with_dropped
from diptych.models.generative._latent_module import Told
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._tiny_parts import tiny_parts
from diptych.models.pretrained_backbone._voken_mapper import MapperConfig
from diptych.models.pretrained_backbone._voken_module import Config, build
from diptych.models.pretrained_backbone._voken_predictor import VokenPredictor
from diptych.models.pretrained_backbone._voken_rows import VokenBatch, VokenProcessor
from diptych.objectives.autoregressive import next_token_loss

__all__ = ["Config", "MiniGpt5Predictor", "MiniGpt5Task"]

VERBS = ("generate_text", "text_likelihood", "answer", "generate_image", "continue_document")
READS = ()

ASKED = "generate an image:"
"""Before a caption of which a picture is asked for."""
_FASTER = 10.0
"""The mapper's learning rate in the first stage, over that of the vokens."""


class MiniGpt5Task(Task[VokenBatch]):
    """The losses of either stage."""

    processor: VokenProcessor

    def __init__(
        self, config: Config, talk: ConversationProcessor, drawing: ImageTextProcessor, tower: PatchFeatures,
        language: LanguageModel, diffusion: Mapping[str, Tensor] | None = None,
        stage: Literal["alignment", "multimodal"] = "alignment",
        connector: bool = False,
        unet: bool = False,
    ) -> None:  # fmt: skip
        """
        Args:
            tower, language: pretrained, and frozen but for the adapter.
            diffusion: weights of the diffusion model; None leaves them random.
            connector: whether the second stage trains the connector, where nothing has before.
            unet: whether the diffusion model's U-Net is trained too, which the paper leaves as it is.
        """
        super().__init__()
        self.config, self.stage = config, stage
        self.model = build(config, talk, drawing, tower, language)
        if diffusion is not None:
            self.model.diffusion.load_state_dict(diffusion)
        self.model.set_learned(stage == "multimodal", connector, unet)
        self.processor = VokenProcessor(talk, drawing, self.model.language.ids())

    def losses(self, batch: VokenBatch, phase: str = "main") -> Losses:
        model, config, count = self.model, self.config, batch.num_samples
        said = model(batch.told)
        words = next_token_loss(said.states_BAD, said.labels_BA, model.logits).cross_entropy
        dropped_N = untold(batch.drawn.seeds, config.diffusion.drop).to(words.device)
        told = model.mapped(model.voken_states(said), dropped_N)
        errors_N = model.diffusion.errors(batch.drawn.pixels_BCHW, batch.drawn.seeds, told)
        parts = {
            "text": Part(words, int((said.labels_BA != IGNORED).sum()), config.text),
            "denoising": Part(errors_N.sum(), count),
        }
        if self.stage == "alignment":
            parts["caption"] = Part(self._unlike(batch, told).sum(), count, config.caption)
        return parts

    def _unlike(self, batch: VokenBatch, told: Told) -> Tensor:
        """The mean square [N] between what is mapped and the states of the captions, on padding where that is read."""
        captions = with_dropped(batch.drawn, self.processor.drawing.tokenizer, self.config.diffusion.drop)
        wanted_NTX, mask_N1T = self.model.diffusion.tell(*captions)
        errors_NT = (told.states_BTX[:, : wanted_NTX.shape[1]] - wanted_NTX).square().mean(2)
        if mask_N1T is None:
            return errors_NT.mean(1)
        read_NT = mask_N1T[:, 0]
        return (errors_NT * read_NT).sum(1) / read_NT.sum(1)

    def trainable(self) -> dict[str, list[ParamGroup]]:
        """The mapper learns faster than the vokens in the first stage."""
        faster = _FASTER if self.stage == "alignment" else 1.0
        slower = (self.model.connector, self.model.language, self.model.diffusion)
        groups = [group for part in slower for group in decay_groups(part)]
        return {"main": [*groups, *decay_groups(self.model.mapper, faster)]}

    def predictor(self) -> MiniGpt5Predictor:
        return MiniGpt5Predictor(self.config, self.processor, self.model, "minigpt5")


class MiniGpt5Predictor(VokenPredictor):
    """Talks about pictures, draws them, and goes on with documents of both."""

    VERBS = VERBS


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, MiniGpt5Task]:
    """Both stages at their smallest, on random parts of which the U-Net is trained too."""
    talk, _, _ = tiny_parts(samples, 16, pictures=3)
    drawn = stable_diffusion.tiny_tasks(samples)["v"]
    diffusion = replace(drawn.config, prediction="epsilon", text=replace(drawn.config.text, context=24))
    texts = replace(drawn.processor.config.text, max_length=24)
    drawing = ImageTextProcessor(replace(drawn.processor.config, text=texts), drawn.processor.tokenizer)
    told = ConversationProcessor(replace(talk.config, prompt=ASKED), talk.tokenizer, talk.template)
    config = Config(diffusion=diffusion, vokens=3, mapper=MapperConfig(1, 2, 2))
    made = {}
    for stage in ("alignment", "multimodal"):
        _, tower, language = tiny_parts(samples, 16)
        made[stage] = MiniGpt5Task(config, told, drawing, tower, language, stage=stage, unet=True)
    return made
