"""Write a caption for every picture in a folder."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.capabilities.predictor import Predictor
    from diptych.commands._pictures import Told
    from diptych.serving.job import Ask


def main(arguments: list[str]) -> int:
    """`diptych caption photos/ --model M --out photos/captions.jsonl`: a folder to train on."""
    from diptych.commands._pictures import add_arguments, answer

    parser = argparse.ArgumentParser(prog="diptych caption", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--prompt", default="", help="words behind the picture, for models that want to be asked")
    parser.add_argument("--max-tokens", type=int, default=64, help="the longest caption (default 64)")
    parser.add_argument("--beams", type=int, default=1, help="beam search of so many rows (default 1: greedy)")
    parser.add_argument("--temperature", type=float, default=0.0, help="above 0: drawn (default 0: the likeliest)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    options = parser.parse_args(arguments)

    def prepare(model: Predictor) -> tuple[Ask, Told]:
        from diptych.commands._pictures import Told
        from diptych.core.sampling import TextSampling
        from diptych.serving.talk import captioner

        sampling = TextSampling(options.max_tokens, options.temperature, beams=options.beams)
        drawn = f"temperature {options.temperature:g}, seed {options.seed}" if options.temperature else "the likeliest"
        facts = [("model", model.name), ("words", drawn if options.beams == 1 else f"{options.beams} beams")]
        if options.prompt:
            facts.append(("prompt", options.prompt))
        told = Told(f"Captions of {options.path}", f"Written by {model.name}.", tuple(facts), "caption")
        return captioner(model, options.prompt, sampling, options.seed), told

    return answer(options, prepare)
