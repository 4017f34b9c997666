"""The built-in scenes: pictures a second on one core, and how often the recogniser reads a picture back exactly.

python benchmarks/scenes.py --out benchmarks/results/scenes.json
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import torch

from _measure import alternate, arguments, rate, show, write
from diptych.core.sample import Sample
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.recognise import recognise
from diptych.data.scenes.source import Scenes


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for size in (64, 128, 224):
        for objects in (1, 3):
            source = Scenes("train", options.count, SceneConfig(size=size, objects=objects))

            def drawn(source: Scenes = source) -> None:
                for index in range(len(source)):
                    source[index]

            pictures = rate(options.count, alternate({"scenes": drawn}, options.repetitions)["scenes"])
            samples = [source[index] for index in range(min(options.count, 500))]
            exact = sum(read_back(sample) for sample in samples) / len(samples)
            rows.append({"size": size, "objects": f"up to {objects}", "pictures/s": pictures, "read back": exact})
    show("scenes on one core: picture, captions, boxes, questions and negatives", rows)
    write(options.out, rows)


def read_back(sample: Sample) -> bool:
    """Whether the recogniser finds just the objects that were drawn."""
    pixels_HWC = sample.image.pixels_HWC
    assert pixels_HWC is not None
    drawn = Counter(f"{one['colour']} {one['shape']}" for one in sample.meta["objects"])
    return Counter(one.name for one in recognise(pixels_HWC)) == drawn


if __name__ == "__main__":
    sys.exit(main())
