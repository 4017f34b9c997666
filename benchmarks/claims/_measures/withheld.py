"""Questions answered with nothing shown: what is right then was guessed.

A measure of the claims alone: `diptych.evaluate` takes it by the name of its module.
"""

from __future__ import annotations

from dataclasses import dataclass

from diptych.capabilities.predictor import Predictor
from diptych.core.records.results import SampleRecord
from diptych.core.sampling import TextSampling
from diptych.core.source import Source
from diptych.evaluation.answers.sample_questions import questions_of_samples
from diptych.evaluation.benchmark import Outcome, Records
from diptych.evaluation.encoding import batched
from diptych.evaluation.metrics.vqa_accuracy import soft_accuracy
from diptych.evaluation.statistics import mean_metric

REQUIRES = ("generate_text",)
DATA = "scenes"
_BATCH = 16


@dataclass(frozen=True)
class Settings:
    """How a question is asked.

    Attributes:
        prompt: with {} for the question.
        max_tokens: of an answer.
    """

    prompt: str = "{}"
    max_tokens: int = 16


def run(model: Predictor, source: Source, settings: Settings, records: Records) -> Outcome:
    """ "accuracy": by the rule of the benchmark "vqa", of the same questions."""
    for some in batched(questions_of_samples(source, records), _BATCH):
        prompts = [[settings.prompt.replace("{}", question.text)] for question in some]
        said: list[str] = model.generate_text(prompts, TextSampling(settings.max_tokens))
        for question, answer in zip(some, said, strict=True):
            value = soft_accuracy(answer.strip(), question.answers)
            output = {"answer": answer, "references": list(question.answers)}
            records.add(SampleRecord(question.key, prompt=question.text, output=output, values={"accuracy": value}))
    return Outcome({"accuracy": mean_metric(records.values("accuracy")[0], None, None, records.seed)})
