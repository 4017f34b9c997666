"""Sort a folder of pictures by labels of your own."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.capabilities.predictor import Predictor
    from diptych.commands._pictures import Told
    from diptych.serving.job import Ask


def main(arguments: list[str]) -> int:
    """`diptych classify photos/ --model M --labels cat dog`: the labels, or a file with one a line."""
    from diptych.commands._pictures import add_arguments, answer

    parser = argparse.ArgumentParser(prog="diptych classify", description=__doc__)
    add_arguments(parser)
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        help="what to tell apart, or a file of such, one a line",
    )
    parser.add_argument(
        "--templates", metavar="T", help="around a label: 'a photo of a {}', a file of such, or a named set: openai_7"
    )
    parser.add_argument("--top", type=int, default=3, help="labels given for each picture, the best first (default 3)")
    options = parser.parse_args(arguments)

    def prepare(model: Predictor) -> tuple[Ask, Told]:
        from diptych.capabilities.verbs import Verb
        from diptych.commands._pictures import Told
        from diptych.evaluation.templates import templates
        from diptych.serving.classify import classifier, labels_for

        prompts = templates(options.templates) if options.templates else None
        labels = labels_for(model, options.labels, prompts, options.top)
        ask = classifier(model, labels)
        shown = ", ".join(labels.names[:12]) + (" ..." if len(labels.names) > 12 else "")
        score = f"{model.how(Verb.SCORE)}; comparable among the labels of one picture"
        facts = (("model", model.name), ("labels", shown), ("asked as", labels.prompts[0]), ("score", score))
        others = tuple(f"{what}_{rank}" for rank in range(2, labels.top + 1) for what in ("label", "score"))
        lead = f"{len(labels.names)} labels, told apart by {model.name}."
        title = f"Pictures of {options.path}, by label"
        return ask, Told(title, lead, facts, "label", ("score", *others), grouped=True)

    return answer(options, prepare)
