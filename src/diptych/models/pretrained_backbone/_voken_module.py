"""MiniGPT-5's modules: a reader of pictures and words whose vokens tell a frozen latent diffusion model what to draw.

B conversations, A places at which something is said, N pictures, K vokens, D width of the language model, Q tokens and
X width of the text that the diffusion model reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from diptych.adapters.language import LanguageAdapterConfig
from diptych.core.errors import ConfigError
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.models.generative import stable_diffusion
from diptych.models.generative._latent_module import LatentDiffusion, Told
from diptych.models.pretrained_backbone._language_model import CausalModel, LanguageModel, Said
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefix_model import PrefixConfig, PrefixPredictor
from diptych.models.pretrained_backbone._prefixed import Prefixed, Trained
from diptych.models.pretrained_backbone._voken_mapper import FeatureMapper, MapperConfig
from diptych.models.pretrained_backbone._vokens import VokenLanguage


@dataclass(frozen=True)
class Config(PrefixConfig):
    """The defaults are the released code's, on Stable Diffusion.

    Attributes:
        diffusion: the frozen model that draws; its `drop`, `guidance` and `steps` are of what is mapped.
        vokens: K.
        mapper: sizes.
        text, caption: weights of these losses beside that of the noise.
    """

    adapter: LanguageAdapterConfig = field(default_factory=lambda: LanguageAdapterConfig("lora", 8, 16.0))
    diffusion: stable_diffusion.Config = field(default_factory=stable_diffusion.Config)
    vokens: int = 8
    mapper: MapperConfig = field(default_factory=MapperConfig)
    text: float = 0.01
    caption: float = 0.1

    def __post_init__(self) -> None:
        if self.vokens < 1 or min(self.text, self.caption) < 0:
            raise ConfigError(
                f"{self.vokens} vokens, and losses weighted {self.text} and {self.caption}: give 1 voken or more, and "
                f"no negative weight"
            )
        if self.adapter.method in ("prompt", "prefix"):
            raise ConfigError(
                f"vokens do not go with {self.adapter.method} tuning: choose lora, qlora, dora, vera or none"
            )


class VokenModel(Prefixed):
    """Reads conversations, says vokens, and maps them.

    Args:
        read: tower, connector and language model, with its adapter; `language` is that language model with its vokens.
    """

    language: VokenLanguage

    def __init__(
        self, read: Prefixed, language: VokenLanguage, mapper: FeatureMapper, diffusion: LatentDiffusion
    ) -> None:
        adapter = frozenset(f"language.{name}" for name in read.adapter)
        super().__init__(read.tower, read.connector, language, adapter)
        self.mapper = mapper
        self.diffusion = diffusion.requires_grad_(requires_grad=False)

    def set_learned(self, aligned: bool, connector: bool = False, unet: bool = False) -> None:
        """Freezes what is not trained.

        Args:
            aligned: False for the first stage, which trains vokens and mapper; True for the second, in which the
                mapper's first maps and its queries stay, and the language model's adapter is trained.
            connector: whether the second stage trains the connector too, where nothing has before.
            unet: whether the diffusion model's U-Net is trained, which the paper leaves as it is.
        """
        self.set_trained(Trained(connector=aligned and connector, language=True))
        for name, parameter in self.language.named_parameters():
            own = name in ("embedding_KD", "head_KD")
            parameter.requires_grad_(own or (aligned and name in self.adapter))
        self.mapper.requires_grad_(requires_grad=True)
        self.mapper.into.requires_grad_(requires_grad=not aligned)
        self.mapper.queries_QX.requires_grad_(not aligned)
        self.diffusion.unet.requires_grad_(requires_grad=unet)

    def voken_states(self, said: Said) -> Tensor:
        """The states [N, K, D] by which pictures' vokens are said, of rows in which every picture is whole."""
        asked_BA = said.labels_BA >= self.language.first
        states = said.states_BAD[asked_BA]
        return states.view(-1, self.language.count, states.shape[-1])

    def mapped(self, states_NKD: Tensor, dropped_N: Tensor | None = None) -> Told:
        """What the diffusion model is told.

        Args:
            dropped_N: True where it is to be told nothing.
        """
        if dropped_N is not None:
            states_NKD = states_NKD.masked_fill(dropped_N[:, None, None], 0)
        return Told(self.mapper(states_NKD), None)

    def train(self, mode: bool = True) -> VokenModel:
        """The diffusion model has no dropout, and stays in evaluation mode."""
        super().train(mode)
        self.diffusion.eval()
        return self


def build(
    config: Config, talk: ConversationProcessor, drawing: ImageTextProcessor, tower: PatchFeatures,
    language: LanguageModel,
) -> VokenModel:  # fmt: skip
    """The module with fresh weights but for those of tower and language model.

    Raises:
        ConfigError: the parts do not fit one another, or the language model is an encoder-decoder.
        MissingExtra: an adapter without peft.
    """
    read = PrefixPredictor.build(config, talk, tower, language)
    if not isinstance(read.language, CausalModel):
        raise ConfigError("vokens are said one after another among words: choose a causal language model")
    vokens, text = VokenLanguage(read.language, config.vokens), config.diffusion.text
    mapper = FeatureMapper(config.mapper, vokens.width, text.width, text.context)
    if text.padding == "constant" and drawing.config.text.max_length != text.context:
        raise ConfigError(
            f"captions padded to {drawing.config.text.max_length} tokens beside {text.context} of the text tower: make "
            f"them as many"
        )
    return VokenModel(
        read, vokens, mapper, stable_diffusion.StableDiffusionPredictor.build(config.diffusion, drawing)
    )  # fmt: skip
