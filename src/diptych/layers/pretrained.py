"""Image and text towers from any `transformers` folder: pixels or tokens in, one feature row each out.

What a tower's weights expect of their input travels with them: pixels are normalised here, on the tower's device, as
its `preprocessor_config.json` says (data/pixels/tower_inputs.py reads it). Batch norm always stays in evaluation mode:
the statistics of a small fine-tuning batch are not those the weights were trained with.

B batch, C channels, H height, W width, T tokens, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from diptych.core.errors import CheckpointError

ImageReadout = Literal["pooled", "mean", "cls"]
TextReadout = Literal["mean", "cls", "last"]

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
