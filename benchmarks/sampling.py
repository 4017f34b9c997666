"""Pictures of texts: our Stable Diffusion beside diffusers' StableDiffusionPipeline, the same folder on both sides.

Both start from the same noise, and that they make the same pictures is checked before anything is timed.

python benchmarks/sampling.py --threads 1 --out benchmarks/results/sampling.json
"""

from __future__ import annotations

import statistics
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from _diffusion_sides import PROMPTS, their_pipeline
from _measure import alternate, arguments, peer, rate, show, write
from diptych.capabilities.load import load
from diptych.core.sampling import ImageSampling
from diptych.core.seeding import normal_like
from diptych.models.generative.stable_diffusion import StableDiffusionPredictor

GUIDANCE = 4.0


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="pictures at a time, at most 4")
    parser.add_argument("--side", type=int, default=16, help="of the grid of latents")
    parser.add_argument("--steps", type=int, default=10, help="of DDIM")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    diffusers, transformers = peer("diffusers", "diffusers"), peer("transformers", "transformers")
    with TemporaryDirectory() as name:
        theirs = their_pipeline(diffusers, transformers, Path(name), options.side)
        ours = load(Path(name) / "pipeline")
    assert isinstance(ours, StableDiffusionPredictor)
    rows = [row for batch in options.batches for row in _compared(theirs, ours, batch, options)]
    show(f"pictures a second, {options.steps} steps of DDIM under guidance", rows)
    write(options.out, rows, steps=options.steps, side=options.side, guidance=GUIDANCE, threads=options.threads)


def _compared(theirs: Any, ours: StableDiffusionPredictor, batch: int, options: Namespace) -> list[dict[str, Any]]:
    prompts, seeds = PROMPTS[:batch], list(range(batch))
    noise = normal_like(seeds, (4, options.side, options.side))
    sampling = ImageSampling(guidance=GUIDANCE, steps=options.steps)

    def their_pictures() -> Any:
        return theirs(
            prompts, latents=noise, num_inference_steps=options.steps, guidance_scale=GUIDANCE, output_type="np"
        ).images

    sides = {"diffusers": their_pictures, "diptych": lambda: ours.pictures(prompts, seeds, sampling)}
    apart = float(np.abs(their_pictures() - sides["diptych"]().permute(0, 2, 3, 1).numpy()).max())
    if apart > 2e-3:
        sys.exit(f"the pictures differ by {apart:.1e}: the two sides do not do the same work")
    seconds = alternate(sides, options.repetitions)
    return [
        {
            "side": name,
            "pictures": batch,
            "pictures/s": rate(batch, found),
            "ratio": statistics.median(a / b for a, b in zip(seconds["diffusers"], found, strict=True)),
            "furthest apart": apart,
        }
        for name, found in seconds.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
