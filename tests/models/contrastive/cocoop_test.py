"""CoCoOp: CoOp when its network says nothing, and one row of the text tower for each picture and class."""

from __future__ import annotations

import pytest
import torch
from adapted_test import NAMES, SCENES_PICTURES, batch_of, randomised, task_of
from torch.nn import functional as F

from diptych.adapters.context import ContextConfig
from diptych.core.errors import ConfigError
from diptych.models.contrastive._adapted_towers import WithContext
from diptych.models.contrastive.cocoop import CocoopPredictor, CocoopTask, Config


def conditional() -> CocoopTask:
    task = randomised(task_of("cocoop"))
    assert isinstance(task, CocoopTask)
    return task


def test_with_a_network_of_zeros_it_is_coop() -> None:
    task = conditional()
    with torch.no_grad():
        for parameter in task.model.meta.parameters():
            parameter.zero_()
    plain = task_of("coop").double()
    assert isinstance(plain.model, WithContext)
    plain.model.context.load_state_dict(task.model.context.state_dict())
    plain.model.base.load_state_dict(task.model.base.state_dict())
    torch.testing.assert_close(task.logits(batch_of(task)), plain.logits(batch_of(plain)), rtol=1e-9, atol=1e-9)


def test_against_the_equation_picture_by_picture() -> None:
    task = conditional()
    batch, model = batch_of(task), task.model
    image_BD = F.normalize(model.image_vectors(batch.pixels_BCHW), dim=-1)
    tokens, lengths = task.class_tokens
    rows = []
    for image_D in image_BD:
        hidden = (model.meta.down.weight @ image_D + model.meta.down.bias).clamp(min=0)
        shift = model.meta.up.weight @ hidden + model.meta.up.bias
        texts = model.context(model.base.text, tokens, lengths, shift.expand(len(NAMES), -1))
        rows.append(model.scale * F.normalize(model.base.text_head(texts), dim=-1) @ image_D)
    torch.testing.assert_close(task.logits(batch), torch.stack(rows), rtol=1e-9, atol=1e-9)


def test_predictions_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = conditional().float().eval().predictor()
    assert isinstance(predictor, CocoopPredictor)
    whole = predictor.score(SCENES_PICTURES, list(NAMES))
    monkeypatch.setattr("diptych.models.contrastive.cocoop.TEXTS_AT_ONCE", 5)
    torch.testing.assert_close(predictor.score(SCENES_PICTURES, list(NAMES)), whole, rtol=1e-5, atol=1e-5)


def test_contexts_of_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="shared by all classes"):
        Config(ContextConfig(4, class_specific=True))
