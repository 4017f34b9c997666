import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy import ToyPredictor

from diptych.capabilities.folder import DESCRIPTION, WEIGHTS, read_model, write_model
from diptych.capabilities.load import architecture_of, check_device, load
from diptych.core.errors import CheckpointError, DeviceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = ToyPredictor(gain=2.0)
    torch.nn.init.normal_(model.module.weight)
    model.name = "trained toy"
    write_model(model, tmp_path)
    return tmp_path


def test_a_model_reads_back_with_its_weights_and_settings(folder: Path) -> None:
    model = read_model(folder)
    assert isinstance(model, ToyPredictor)
    assert (model.gain, model.name, model.module.training) == (2.0, "trained toy", False)
    assert torch.equal(model.module.weight, load_file(folder / WEIGHTS)["weight"])
    assert load(folder).name == "trained toy"


def test_truncated_weights(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_model(folder)


@pytest.mark.parametrize(
    "state",
    [{"weights": torch.zeros(3, 3)}, {"weight": torch.zeros(3, 4)}, {"weight": torch.zeros(3, 3), "x": torch.zeros(1)}],
)
def test_weights_of_another_model(folder: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="another model"):
        read_model(folder)


def test_damaged_descriptions(folder: Path) -> None:
    description = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**description, "predictor": "nowhere:Nobody"}))
    with pytest.raises(CheckpointError, match="'nowhere:Nobody' is not installed"):
        read_model(folder)
    (folder / DESCRIPTION).write_text('{"format"')
    with pytest.raises(CheckpointError, match="truncated or not JSON"):
        read_model(folder)
    (folder / DESCRIPTION).unlink()
    with pytest.raises(CheckpointError, match="is not a model folder"):
        read_model(folder)


def test_tied_weights_are_written_and_read(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Linear(2, 2)
            self.b = torch.nn.Linear(2, 2)
            self.b.weight = self.a.weight

    model = ToyPredictor()
    model.module = Tied()
    write_model(model, tmp_path)
    assert torch.equal(load_file(tmp_path / WEIGHTS)["b.weight"], model.module.a.weight)


def test_public_folders_say_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    assert architecture_of(tmp_path) == "BertModel"
    with pytest.raises(CheckpointError, match=r"holds a BertModel, which no model here reads; known: "):
        load(tmp_path)
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"init_logit_bias": -10}}')
    assert architecture_of(tmp_path) == "open_clip/siglip"


def test_wrong_references(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model at .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is no model: expected a run folder"):
        load(tmp_path)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="'cuda:63' is not there"):
        check_device(torch.device("cuda:63"))


@pytest.mark.parametrize(("there", "kind"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_there_is_one(there: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert check_device("auto") == torch.device(kind)
