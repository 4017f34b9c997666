"""Folders that cannot be a tower: each is refused with one sentence that names the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_backbones import vit

from diptych.core.errors import CheckpointError
from diptych.layers.backbone_folder import backbone_from_config, read_backbone

WEIGHTS = "model.safetensors"


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_backbone(folder, "vision")
    said = str(caught.value)
    assert str(folder) in said and "\n" not in said, said
    return said


def test_no_folder_and_no_model_are_refused(tmp_path: Path) -> None:
    assert "has no config.json" in refusal(tmp_path)
    assert "has no config.json" in refusal(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no tower configuration"):
        backbone_from_config(tmp_path, "vision")


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "no_such_type"}', "{}"])
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: str) -> None:
    vit(tmp_path)
    (tmp_path / "config.json").write_text(content)
    assert "cannot be read as a transformers model" in refusal(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(tmp_path: Path, kept: float) -> None:
    vit(tmp_path)
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(content[: int(kept * len(content))])
    assert "cannot be read as a transformers model" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a pickle", None])
def test_a_damaged_pickle_is_refused(tmp_path: Path, content: bytes | None) -> None:
    theirs = vit(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    path = tmp_path / "pytorch_model.bin"
    torch.save(theirs.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-900] if content is None else content)
    assert "cannot be read as a transformers model" in refusal(tmp_path)


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    vit(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    name = next(name for name in state if "layernorm.weight" in name)
    del state[name]
    save_file(state, tmp_path / WEIGHTS, metadata={"format": "pt"})
    assert "lacks weights of its own model: layernorm.weight" in refusal(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert "cannot be read as a transformers model" in refusal(tmp_path)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))
    assert "another size" in refusal(tmp_path)


def test_code_that_a_folder_brings_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where somebody would say yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config | own))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    assert "cannot be read as a transformers model" in refusal(tmp_path)
    assert not (tmp_path / "was_run").exists()
