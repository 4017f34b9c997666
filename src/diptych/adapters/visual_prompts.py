"""Visual prompts: learned tokens beside the patches of a frozen vision transformer.

VPT, Jia et al. 2022, "Visual Prompt Tuning", arXiv 2203.12119. Shallow: P prompts stand between the class token and the
patches at the first block and travel through all of them. Deep: every block has prompts of its own, and those that the
block before has put out are dropped.

Departures: in towers with a norm before the blocks (CLIP) the prompts come after it, as those of later blocks must;
where patches are pooled, prompts are left out, as they are no part of the picture.

B batch, C channels, H height, W width, T tokens, L layers with prompts, P prompts, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.core.errors import ConfigError
from diptych.layers.vision_transformer import VisionConfig, VisionTransformer


class VisualPrompts(nn.Module):
    """Prompts of the first block, or of every block."""

    def __init__(self, config: VisionConfig, prompts: int, deep: bool) -> None:
        super().__init__()
        if prompts < 1:
            raise ConfigError(f"prompts {prompts}: give 1 or more visual prompts")
        self.vectors_LPD = nn.Parameter(torch.empty(config.depth if deep else 1, prompts, config.width))
        # Xavier's bound between a patch's numbers and the width, as in the paper's released code.
        bound = (6 / (3 * config.patch_size**2 + config.width)) ** 0.5
        nn.init.uniform_(self.vectors_LPD, -bound, bound)

    def forward(self, vision: VisionTransformer, image_BCHW: Tensor) -> Tensor:
        """One vector [B, D] a picture, by the tower's own pooling."""
        x_BTD, special = vision.embed(image_BCHW), vision.config.special
        blocks = vision.transformer.blocks
        for layer, block in enumerate(blocks):
            x_BTD = self._prompted(x_BTD, layer, special)
            if layer == len(blocks) - 1 and vision.config.pooling == "cls":
                first_B = torch.zeros(len(x_BTD), dtype=torch.int64, device=x_BTD.device)
                out: Tensor = vision.norm_post(block(x_BTD, None, positions=first_B))
                return out
            x_BTD = block(x_BTD)
        prompts = self.vectors_LPD.shape[1]
        x_BPD = vision.norm_post(torch.cat([x_BTD[:, :special], x_BTD[:, special + prompts :]], dim=1))
        pooled_BD: Tensor = x_BPD.mean(1) if vision.pool is None else vision.pool(x_BPD)
        return pooled_BD

    def _prompted(self, x_BTD: Tensor, layer: int, special: int) -> Tensor:
        """Tokens as a block is given them: with prompts put in, or put in the place of those before."""
        layers, prompts, _ = self.vectors_LPD.shape
        if layer >= layers:
            return x_BTD
        rest = special if layer == 0 else special + prompts
        prompts_BPD = self.vectors_LPD[layer].to(x_BTD.dtype).expand(len(x_BTD), -1, -1)
        return torch.cat([x_BTD[:, :special], prompts_BPD, x_BTD[:, rest:]], dim=1)
