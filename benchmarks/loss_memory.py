"""Peak memory of a contrastive loss, forward and backward, on embeddings alone: diptych beside open_clip.

python benchmarks/loss_memory.py --out benchmarks/results/loss_memory.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from _measure import arguments, in_subprocess, peak_mb, show, write
from _open_clip import open_clip
from diptych.objectives.contrastive import info_nce, sigmoid_loss

WIDTH = 512
LOSSES = ("clip", "siglip")
SIDES = ("diptych", "open_clip")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--pairs", type=int, default=8192)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--loss", choices=LOSSES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        return print(json.dumps(_measured(options.side, options.loss, options.pairs)))
    rows = [
        {"side": side, "loss of": loss, "pairs": options.pairs}
        | in_subprocess(__file__, "--side", side, "--loss", loss, "--pairs", options.pairs)
        for loss in LOSSES
        for side in SIDES
    ]
    show(f"loss and gradient at {options.pairs} pairs of width {WIDTH}", rows)
    return write(options.out, rows, threads=options.threads)


def _measured(side: str, loss: str, pairs: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    image_ND, text_ND = (
        F.normalize(torch.randn(pairs, WIDTH, generator=generator), dim=-1).requires_grad_() for _ in range(2)
    )
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    package = open_clip()
    before, started = peak_mb(), time.perf_counter()
    value = _loss(package, side, loss, image_ND, text_ND, scale, bias)
    value.backward()
    seconds = time.perf_counter() - started
    gradient = float(image_ND.grad.norm()) if image_ND.grad is not None else 0.0
    return {"MB": peak_mb() - before, "seconds": seconds, "value": float(value), "gradient norm": gradient}


def _loss(
    package: object, side: str, loss: str, image_ND: Tensor, text_ND: Tensor, scale: Tensor, bias: Tensor
) -> Tensor:
    if side == "diptych":
        return info_nce(image_ND, text_ND, scale) if loss == "clip" else sigmoid_loss(image_ND, text_ND, scale, bias)
    losses = package.loss  # type: ignore[attr-defined]
    found: Tensor = (
        losses.ClipLoss()(image_ND, text_ND, scale)
        if loss == "clip"
        else losses.SigLipLoss()(image_ND, text_ND, scale, bias)
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
