"""What every model file is held to, as functions of its module, so that a model from anywhere can be checked.

A case is one task of one model file at its smallest: `module.tiny_tasks(samples)[name]`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from generation_checks import documents_are_continued, drawn_pictures, pictures_are_generated, texts_are_generated
from likelihood_checks import (
    pictures_have_a_likelihood,
    prompts_have_a_likelihood,
    scores_say_what_they_compare,
    texts_have_a_likelihood,
)
from locate_checks import boxes_are_given
from torch import Tensor
from verb_checks import pairs_are_scored, patches_are_filled_in, words_are_filled_in
from verb_outputs import outputs, scores_classes

from diptych.capabilities.folder import read_model, write_model
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Verb
from diptych.core.errors import ConfigError, MissingVerb
from diptych.core.losses import total
from diptych.core.sample import Sample
from diptych.core.seeding import seed_everything
from diptych.core.task import Task
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.training.backward import backward

CAPTIONS = ("a cat", "two very small dogs to the left of an enormous red house", "red")


class Held:
    """A source of samples that are simply held."""

    name = "held"

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def keys(self) -> list[str]:
        return [sample.key for sample in self._samples]

    def fingerprint(self) -> str:
        return "held"


def eight_samples() -> list[Sample]:
    """Eight scenes that differ in what they show, say and are called."""
    chosen: dict[str, Sample] = {}
    scenes = Scenes("train", config=SceneConfig(objects=1, size=32))
    for index in range(200):
        sample = scenes[index]
        chosen.setdefault(sample.texts[0], sample)
        if len(chosen) == 8:
            break
    return list(chosen.values())


@dataclass(frozen=True)
class Case:
    """One task of one model file."""

    module: ModuleType
    name: str

    def task(self, seed: int = 0) -> Task[Any]:
        """The task, freshly and repeatably initialised."""
        seed_everything("contract", seed)
        task: Task[Any] = self.module.tiny_tasks(eight_samples())[self.name]
        return task


def cases_of(module: ModuleType) -> list[Case]:
    """Every task that a model file names."""
    return [Case(module, name) for name in module.tiny_tasks(eight_samples())]


def whole_batch(task: Task[Any], samples: Sequence[Sample]) -> Any:
    """All samples as one batch of the task."""
    return next(iter(evaluation_batches(Held(samples), task.processor, len(samples))))


def losses_are_finite_scalars(case: Case) -> None:
    task = case.task()
    batch = whole_batch(task, eight_samples())
    assert batch.num_samples == len(batch.keys) == 8
    for phase in task.phases:
        losses = task.losses(batch, phase)
        assert losses
        for name, part in losses.items():
            assert part.sum.shape == (), name
            assert bool(part.sum.isfinite()), name
            assert part.count > 0, name
        declared = task.counts(batch, phase)
        assert declared == {name: part.count for name, part in losses.items() if part.scope == "mean"}


def every_trainable_parameter_gets_a_gradient(case: Case) -> None:
    task = case.task()
    batch = whole_batch(task, eight_samples())
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # zeros and ones hide missing wiring
    for phase in task.phases:
        total(task.losses(batch, phase)).backward()
    dead = [
        name
        for groups in task.trainable().values()
        for group in groups
        for name, parameter in group.parameters.items()
        if parameter.grad is None or not bool(parameter.grad.abs().sum() > 0)
    ]
    assert not dead, f"no gradient: {dead}"


def eight_samples_are_memorised(case: Case, steps: int = 400) -> None:
    """The loss falls below a tenth; a step that overshoots is no failure, so it is looked at along the way.

    Of several phases the first counts: what plays against it (a discriminator) is not to win.
    """
    task = case.task()
    batch = whole_batch(task, eight_samples())
    optimizers = {
        phase: torch.optim.AdamW([p for g in groups for p in g.parameters.values()], lr=1e-3, weight_decay=0.0)
        for phase, groups in task.trainable().items()
    }
    seen: list[float] = []
    while len(seen) <= steps and not (seen and seen[-1] < 0.1 * seen[0]):
        now = 0.0
        for phase in task.phases:
            optimizers[phase].zero_grad()
            loss = total(task.losses(batch, phase))
            loss.backward()
            optimizers[phase].step()
            now += float(loss.detach()) if phase == task.phases[0] else 0.0
        task.after_step()
        seen.append(now)
    assert seen[-1] < 0.1 * seen[0], f"the loss went from {seen[0]:.3f} to {min(seen):.3f} only"


def micro_batches_equal_the_whole_batch(case: Case) -> None:
    if not case.task().divisible:
        try:
            gradients_and_losses(case, 4)
        except ConfigError as error:
            assert "micro_batch" in str(error)
            return
        raise AssertionError("a task that is not divisible was cut")
    whole = gradients_and_losses(case)
    for size in (4, 3):  # 3 + 3 + 2
        for name, tensor in gradients_and_losses(case, size).items():
            torch.testing.assert_close(tensor, whole[name], rtol=1e-9, atol=1e-10, msg=name)


def gradients_and_losses(case: Case, size: int = 8) -> dict[str, Tensor]:
    """Gradients and losses in float64 of the eight samples, in micro-batches of `size`."""
    task = case.task().double()
    batch = whole_batch(task, eight_samples())
    found: dict[str, Tensor] = {}
    for phase in task.phases:
        for name, loss in backward(task, batch.split(size), phase).items():
            found[f"loss {phase} {name}"] = loss.detach()
    return {**found, **{name: p.grad for name, p in task.named_parameters() if p.grad is not None}}


def bf16_is_finite(case: Case) -> None:
    task = case.task()
    batch = whole_batch(task, eight_samples())
    for phase in task.phases:
        with torch.autocast("cpu", torch.bfloat16):
            loss = total(task.losses(batch, phase))
        loss.backward()
        assert bool(loss.isfinite())
    assert all(bool(p.grad.isfinite().all()) for p in task.parameters() if p.grad is not None)


def predictor_of(case: Case) -> Predictor:
    predictor: Predictor = case.task().predictor()  # type: ignore[operator]
    predictor.module.eval()
    return predictor


def saved_and_loaded_is_identical(case: Case) -> None:
    predictor = predictor_of(case)
    with tempfile.TemporaryDirectory() as folder:
        write_model(predictor, Path(folder))
        again = read_model(Path(folder))
        before, after = (
            outputs(one, eight_samples()) | drawn_pictures(one, eight_samples()) for one in (predictor, again)
        )
    assert before.keys() == after.keys() and before
    assert all(torch.equal(before[verb], after[verb]) for verb in before)
    assert (again.VERBS, again.name) == (predictor.VERBS, predictor.name)


def predictions_do_not_depend_on_the_rest_of_the_batch(case: Case) -> None:
    predictor, samples = predictor_of(case), eight_samples()
    together = outputs(predictor, samples)
    for verb, rows in together.items():
        alone = torch.cat([outputs(predictor, [sample])[verb] for sample in samples])
        if verb == "score" and not scores_classes(predictor):
            rows, alone = rows.diagonal(), alone.flatten()
        if verb == "encode_text" and Verb.ENCODE_TEXT not in predictor.verbs:
            continue
        rounding = 1.01 / 255 if verb in ("reconstruct", "fill_image") else 0.0  # pixels are whole numbers to 255
        torch.testing.assert_close(alone, rows, rtol=1e-4, atol=1e-5 + rounding, msg=verb)


def texts_do_not_depend_on_padding(case: Case) -> None:
    predictor = predictor_of(case)
    if Verb.ENCODE_TEXT not in predictor.verbs:
        return
    together = predictor.encode_text(list(CAPTIONS))
    alone = torch.cat([predictor.encode_text([text]) for text in CAPTIONS])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def pairs_words_and_patches(case: Case) -> None:
    predictor, samples = predictor_of(case), eight_samples()
    if Verb.SCORE_PAIRS in predictor.VERBS:
        pairs_are_scored(predictor, samples, CAPTIONS)
    if Verb.FILL_TEXT in predictor.verbs:
        words_are_filled_in(predictor, samples)
    if Verb.FILL_IMAGE in predictor.verbs:
        patches_are_filled_in(predictor, samples)


def likelihoods(case: Case) -> None:
    predictor, samples = predictor_of(case), eight_samples()
    if Verb.TEXT_LIKELIHOOD in predictor.verbs:
        texts_have_a_likelihood(predictor, samples, CAPTIONS)
    if Verb.PROMPT_LIKELIHOOD in predictor.verbs:
        prompts_have_a_likelihood(predictor, samples, CAPTIONS)
    if Verb.IMAGE_LIKELIHOOD in predictor.verbs:
        pictures_have_a_likelihood(predictor, samples, CAPTIONS)
    if Verb.SCORE_PAIRS in predictor.verbs:
        scores_say_what_they_compare(predictor, samples)


def texts_pictures_and_documents(case: Case) -> None:
    predictor, samples = predictor_of(case), eight_samples()
    if Verb.GENERATE_TEXT in predictor.verbs:
        texts_are_generated(predictor, samples)
    if Verb.GENERATE_IMAGE in predictor.verbs:
        pictures_are_generated(predictor, samples, CAPTIONS)
    if Verb.CONTINUE_DOCUMENT in predictor.verbs:
        documents_are_continued(predictor, samples)


def boxes(case: Case) -> None:
    predictor = predictor_of(case)
    if Verb.LOCATE in predictor.verbs:
        boxes_are_given(predictor, eight_samples())


def declared_verbs_are_honoured_and_others_refused(case: Case) -> None:
    predictor, samples = predictor_of(case), eight_samples()
    assert case.module.VERBS == predictor.VERBS
    for verb, rows in outputs(predictor, samples).items():
        assert bool(rows.isfinite().all()), verb
        if verb.startswith("encode"):
            torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)), rtol=1e-4, atol=1e-4)
    for verb in set(Verb) - predictor.verbs:
        try:
            getattr(predictor, verb)
        except MissingVerb as error:
            assert all(name in str(error) for name in predictor.VERBS)
        else:
            raise AssertionError(f"{verb} is not declared and not refused")


CHECKS: tuple[Callable[[Case], None], ...] = (
    losses_are_finite_scalars,
    every_trainable_parameter_gets_a_gradient,
    eight_samples_are_memorised,
    micro_batches_equal_the_whole_batch,
    bf16_is_finite,
    saved_and_loaded_is_identical,
    predictions_do_not_depend_on_the_rest_of_the_batch,
    texts_do_not_depend_on_padding,
    pairs_words_and_patches,
    likelihoods,
    texts_pictures_and_documents,
    boxes,
    declared_verbs_are_honoured_and_others_refused,
)
