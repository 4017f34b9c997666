"""Image and text towers from any `transformers` folder: pixels or tokens in, one feature row each out.

What a tower's weights expect of their input travels with them: pixels are normalised here, on the tower's device, as
its `preprocessor_config.json` says (data/pixels/tower_inputs.py reads it). Batch norm always stays in evaluation mode:
the statistics of a small fine-tuning batch are not those the weights were trained with.

B batch, C channels, H height, W width, T tokens, D feature width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from diptych.core.errors import CheckpointError, MissingExtra

ImageReadout = Literal["pooled", "mean", "cls"]
TextReadout = Literal["mean", "cls", "last"]

UNREADABLE = (OSError, ValueError, SafetensorError, UnpicklingError, EOFError, RuntimeError)
"""What damaged files of each kind raise in the library."""
_NOT_AUTOMATIC = {"blip_2_vision_model": "Blip2VisionModel", "instructblip_vision_model": "InstructBlipVisionModel"}
"""Models that the library's AutoModel does not know by their configuration."""
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Tower(nn.Module):
    """A pretrained backbone that is either trained or frozen, in every respect.

    Frozen means evaluation mode (whatever `train()` says) and no gradients; with these gone, a task's `trainable()`
    leaves its parameters out of the optimizer.
    """

    def __init__(self, backbone: nn.Module, trainable: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.trainable = trainable
        self.requires_grad_(trainable)
        self.train(trainable)

    @property
    def config(self) -> Any:
        """The backbone's `transformers` configuration."""
        return self.backbone.config

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; never for batch norm."""
        super().train(mode and self.trainable)
        for module in self.modules():
            if isinstance(module, _BATCH_NORMS):
                module.eval()
        return self

    def write_config(self, folder: Path) -> None:
        """Writes the backbone's `config.json`, from which `backbone_from_config` builds it again."""
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(folder)


class ImageTower(Tower):
    """Pictures to features.

    Args:
        backbone: takes `pixel_values` [B, 3, H, W].
        scale, mean, std: pixels become (pixel * scale - mean) / std, by channel.
        readout: "pooled" is what the backbone itself calls pooled; "mean" and "cls" pool its last hidden state.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        trainable: bool = False,
        *,
        scale: float = 1 / 255,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        readout: ImageReadout = "pooled",
    ) -> None:
        pooler = getattr(backbone, "pooler", None)
        if readout != "pooled" and isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
            backbone.pooler = None  # type: ignore[assignment]  # nothing here reads it, so nothing would train it
        super().__init__(backbone, trainable)
        self.scale = scale
        self.readout = readout
        self.register_buffer("mean_C11", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """features_BD of uint8 pixels [B, 3, H, W]; a floating-point tensor is taken as normalised already.

        Raises:
            CheckpointError: the backbone has no pooled output or no class token, and that was asked for.
        """
        if not pixels_BCHW.is_floating_point():
            pixels_BCHW = (pixels_BCHW.to(self.mean_C11.dtype) * self.scale - self.mean_C11) / self.std_C11
        output = self.backbone(pixel_values=pixels_BCHW)
        if self.readout == "pooled":
            pooled: Tensor | None = getattr(output, "pooler_output", None)
            if pooled is None:
                raise CheckpointError(f"{self.config.model_type} has no pooled output: choose readout 'mean' or 'cls'")
            return pooled.flatten(1)
        hidden: Tensor = output.last_hidden_state
        if hidden.ndim == 4:  # a feature map [B, D, H, W]: its places are its tokens
            if self.readout == "cls":
                raise CheckpointError(f"{self.config.model_type} has no class token: choose readout 'pooled' or 'mean'")
            hidden = hidden.flatten(2).transpose(1, 2)
        return hidden.mean(1) if self.readout == "mean" else hidden[:, 0]


class TextTower(Tower):
    """Strings of tokens to features: a sentence encoder.

    Args:
        backbone: takes `input_ids` and `attention_mask` [B, T].
        readout: which of the last hidden states is the sentence: their mean, the first, or the last that is not
            padding.
    """

    def __init__(self, backbone: nn.Module, trainable: bool = False, *, readout: TextReadout = "mean") -> None:
        super().__init__(backbone, trainable)
        self.readout = readout

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """features_BD; tokens at and after a row's length are padding and change nothing."""
        places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
        mask_BT = places_T < lengths_B[:, None]
        hidden_BTD: Tensor = self.backbone(input_ids=tokens_BT, attention_mask=mask_BT.long()).last_hidden_state
        if self.readout == "cls":
            return hidden_BTD[:, 0]
        if self.readout == "last":
            return hidden_BTD[torch.arange(len(tokens_BT), device=tokens_BT.device), lengths_B - 1]
        mask_BT1 = mask_BT.unsqueeze(-1).to(hidden_BTD.dtype)
        return (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)


def read_backbone(folder: Path, side: Literal["vision", "text"]) -> nn.Module:
    """The weights of a `transformers` folder, in float32; of a two-tower model (CLIP), the named side.

    Raises:
        CheckpointError: the folder is no model, a truncated one, or lacks weights.
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for(f"the pretrained tower {folder}")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no transformers folder: it has no config.json")
    try:
        with quiet(transformers.utils.logging):
            # Sizes that differ are listed rather than raised; code in the folder is refused rather than asked about.
            model, found = transformers.AutoModel.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
                trust_remote_code=False,
            )  # fmt: skip
    except UNREADABLE as error:
        reason = f"{error}".partition("\n")[0] or "a file ends too early"
        raise CheckpointError(f"{folder} cannot be read as a transformers model: {reason}") from error
    part = one_side(model, side)
    kept = set(part.state_dict())
    prefix = "" if part is model else f"{side}_model."
    missing = sorted(name for name in found["missing_keys"] if name.removeprefix(prefix) in kept)
    if missing:
        raise CheckpointError(f"{folder} lacks weights of its own model: {', '.join(missing[:3])}")
    names = [str(name) for name, *_ in found["mismatched_keys"]]
    if wrong := sorted(name for name in names if name.removeprefix(prefix) in kept):
        raise CheckpointError(f"{folder} has weights of another size than its config.json says: {', '.join(wrong[:3])}")
    return part


def backbone_from_config(folder: Path, side: Literal["vision", "text"]) -> nn.Module:
    """The backbone that `Tower.write_config` described, with fresh weights.

    Raises:
        CheckpointError: there is no such configuration.
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for(f"the pretrained tower {folder}")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = f"{error}".partition("\n")[0]
        raise CheckpointError(f"{folder} holds no tower configuration: {reason}") from error
    return one_side(model_of(config), side)


def model_of(config: Any) -> nn.Module:
    """The model of a `transformers` configuration, with fresh weights."""
    transformers = transformers_for("a pretrained tower")
    if name := _NOT_AUTOMATIC.get(config.model_type):
        model: nn.Module = getattr(transformers, name)(config)
        return model
    automatic: nn.Module = transformers.AutoModel.from_config(config)
    return automatic


def tiny_vision_backbone(width: int = 32, image_size: int = 32) -> nn.Module:
    """A random ViT of one layer: for contract tests and trials.

    Raises:
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for("a pretrained tower")
    config = transformers.ViTConfig(
        hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=2 * width,
        image_size=image_size, patch_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    backbone: nn.Module = transformers.AutoModel.from_config(config)
    return backbone


def tiny_text_backbone(vocab_size: int, width: int = 32, context: int = 64) -> nn.Module:
    """A random BERT of one layer: for contract tests and trials.

    Raises:
        MissingExtra: transformers is not installed.
    """
    transformers = transformers_for("a pretrained tower")
    config = transformers.BertConfig(
        vocab_size=vocab_size, hidden_size=width, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=context, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return one_side(transformers.AutoModel.from_config(config), "text")


def one_side(model: nn.Module, side: Literal["vision", "text"]) -> nn.Module:
    """The half of a two-tower model; of a text model, all but the pooling layer, which nothing here reads."""
    part: nn.Module = getattr(model, f"{side}_model", model)
    if side == "text" and getattr(part, "pooler", None) is not None:
        part.pooler = None  # type: ignore[assignment]
    return part


def transformers_for(purpose: str) -> Any:
    """The library.

    Raises:
        MissingExtra: it is not installed, and `purpose` needs it.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "transformers", purpose) from error
    return transformers


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """Without the library's report of unused heads and its progress bar; what is missing is checked by us."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
