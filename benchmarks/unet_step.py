"""A training step of a text-conditioned U-Net: ours beside diffusers', the same weights, noise and optimizer, in turns.

Theirs is the step of diffusers' own training example: add_noise of a DDPMScheduler, UNet2DConditionModel, mean squared
error, AdamW. The losses of several steps are compared before anything is timed: in fp32 they are equal.

python benchmarks/unet_step.py --threads 1 --out benchmarks/results/unet_step.json
"""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from _diffusion_sides import STEPS, TEXT, our_unet, schedule, their_unet
from _measure import alternate, arguments, peer, rate, show, write
from diptych.objectives.diffusion import noised, squared_error, target
from diptych.training.optimizer import AdamWConfig

OPTIMIZER = AdamWConfig(lr=1e-4, weight_decay=0.01)


class Noisy(NamedTuple):
    """A batch and the noise it is given."""

    clean_BCHW: Tensor
    noise_BCHW: Tensor
    steps_B: Tensor
    text_BTX: Tensor


Step = Callable[[Noisy], float]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, default=8, help="pictures in a step")
    parser.add_argument("--side", type=int, default=16, help="of the grid of latents")
    parser.add_argument("--steps", type=int, default=4, help="steps whose losses are compared")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    diffusers = peer("diffusers", "diffusers")
    model = their_unet(diffusers, options.side)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    data = _batches(options.steps, options.batch, options.side)
    losses = {name: [step(one) for one in data] for name, step in _sides(diffusers, model).items()}
    apart = max(abs(a - b) for row in losses.values() for a, b in zip(losses["diffusers"], row, strict=True))
    if apart > 1e-4:
        sys.exit(f"the losses differ by {apart:.1e}: the two sides do not do the same work")
    turns = {name: _next_step(step, data) for name, step in _sides(diffusers, model).items()}
    seconds = alternate(turns, options.repetitions, warm_up=2)
    rows = []
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["diffusers"], found, strict=True))
        rows.append({"side": name, "pictures/s": rate(options.batch, found), "ratio": ratio})
    show(f"pictures a second, {millions:.1f} M parameters, losses at most {apart:.1e} apart", rows)
    write(options.out, rows, losses=losses, batch=options.batch, threads=options.threads, parameters=millions)


def _sides(diffusers: Any, model: Any) -> dict[str, Step]:
    """Each from the same weights."""
    return {
        "diffusers": _their_step(diffusers, copy.deepcopy(model)),
        "diffusers, fused AdamW": _their_step(diffusers, copy.deepcopy(model), fused=True),
        "diptych": _our_step(copy.deepcopy(model)),
    }


def _their_step(diffusers: Any, model: Any, fused: bool = False) -> Step:
    scheduler = diffusers.DDPMScheduler(STEPS, 0.00085, 0.012, "scaled_linear")
    optimizer = _adamw(model.train(), fused)

    def step(batch: Noisy) -> float:
        optimizer.zero_grad()
        mixed = scheduler.add_noise(batch.clean_BCHW, batch.noise_BCHW, batch.steps_B)
        loss = F.mse_loss(model(mixed, batch.steps_B, batch.text_BTX).sample, batch.noise_BCHW)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _our_step(model: Any) -> Step:
    unet, kept_S = our_unet(model).train(), schedule().kept()
    optimizer = _adamw(unet, fused=True)

    def step(batch: Noisy) -> float:
        optimizer.zero_grad(set_to_none=True)
        kept_B = kept_S[batch.steps_B]
        said = unet(noised(batch.clean_BCHW, batch.noise_BCHW, kept_B), batch.steps_B, batch.text_BTX)
        wanted = target(batch.clean_BCHW, batch.noise_BCHW, kept_B, "epsilon")
        loss = squared_error(said, wanted).mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _adamw(model: nn.Module, fused: bool) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(), lr=OPTIMIZER.lr, betas=(OPTIMIZER.beta1, OPTIMIZER.beta2), eps=OPTIMIZER.eps,
        weight_decay=OPTIMIZER.weight_decay, fused=fused or None,
    )  # fmt: skip


def _batches(count: int, size: int, side: int) -> list[Noisy]:
    draw = torch.Generator().manual_seed(1)
    return [
        Noisy(
            torch.randn(size, 4, side, side, generator=draw),
            torch.randn(size, 4, side, side, generator=draw),
            torch.randint(STEPS, (size,), generator=draw),
            torch.randn(size, 77, TEXT, generator=draw),
        )
        for _ in range(count)
    ]


def _next_step(step: Step, data: Sequence[Noisy]) -> Callable[[], float]:
    turn = cycle(data)
    return lambda: step(next(turn))


if __name__ == "__main__":
    sys.exit(main())
