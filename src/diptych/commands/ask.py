"""Ask one question about every picture in a folder."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.capabilities.predictor import Predictor
    from diptych.commands._pictures import Told
    from diptych.serving.job import Ask


def main(arguments: list[str]) -> int:
    """`diptych ask photos/ "Is it raining?" --model M --choices yes no`."""
    from diptych.commands._pictures import add_arguments, answer

    parser = argparse.ArgumentParser(prog="diptych ask", description=__doc__)
    add_arguments(parser)
    parser.add_argument("question")
    parser.add_argument("--choices", nargs="+", default=[], help="the answers there may be (default: any)")
    options = parser.parse_args(arguments)

    def prepare(model: Predictor) -> tuple[Ask, Told]:
        from diptych.capabilities.verbs import Verb
        from diptych.commands._pictures import Told
        from diptych.serving.talk import answerer

        ask = answerer(model, options.question, options.choices)
        facts = [("pictures", options.path), ("model", model.name), ("answer", model.how(Verb.ANSWER))]
        if options.choices:
            facts.append(("choices", ", ".join(options.choices)))
        lead = f"Asked of {model.name} about every picture."
        return ask, Told(options.question, lead, tuple(facts), "answer", grouped=bool(options.choices))

    return answer(options, prepare)
