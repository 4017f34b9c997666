"""Public folders that cannot be used: each is refused with one sentence that says what and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_public import tiny_clip, tiny_siglip, tiny_vit

from diptych.capabilities.load import load
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import CheckpointError, ConfigError, DataError, DiptychError
from diptych.models.contrastive import clip

WEIGHTS = "model.safetensors"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


def sentence(reference: str | Path, kind: type[DiptychError]) -> str:
    """What a user reads: one line."""
    with pytest.raises(kind) as caught:
        load(reference)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1000, text
    return text


@pytest.mark.parametrize("make", [tiny_clip, tiny_siglip, tiny_vit])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_truncated_safetensors_are_refused_by_name(tmp_path: Path, make: Callable[[Path], Any], kept: float) -> None:
    make(tmp_path)
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(content[: int(kept * len(content))])
    assert str(tmp_path / WEIGHTS) in sentence(tmp_path, CheckpointError)


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 half a zip"])
def test_a_damaged_pickle_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    tiny_clip(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    assert "pytorch_model.bin is truncated or damaged" in sentence(tmp_path, CheckpointError)


def test_a_truncated_pickle_is_refused_by_name(tmp_path: Path) -> None:
    theirs = tiny_clip(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    path = tmp_path / "pytorch_model.bin"
    torch.save(theirs.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "pytorch_model.bin is truncated or damaged" in sentence(tmp_path, CheckpointError)


class Trap:
    """What unpickles to a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must never be printed",))


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_clip(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    torch.save({"logit_scale": Trap()}, tmp_path / "pytorch_model.bin")
    assert "pytorch_model.bin" in sentence(tmp_path, CheckpointError)
    assert "never" not in capsys.readouterr().out


def test_a_missing_file_of_several_is_refused_by_name(tmp_path: Path) -> None:
    theirs = tiny_clip(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    theirs.float().save_pretrained(tmp_path, max_shard_size="20KB")
    lost = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    lost.unlink()
    assert "no weights at" in sentence(tmp_path, CheckpointError)


def test_an_index_that_names_no_files_is_refused(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "elsewhere.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert "model.safetensors.index.json" in sentence(tmp_path, CheckpointError)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert "no weights in" in sentence(tmp_path, CheckpointError)


def test_a_missing_and_a_left_over_weight_are_refused_by_name(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    save_file(state | {"text_model.adapter.weight": torch.zeros(2)}, tmp_path / WEIGHTS)
    assert "no table knows: text_model.adapter.weight" in sentence(tmp_path, CheckpointError)
    del state["visual_projection.weight"]
    save_file(state, tmp_path / WEIGHTS)
    assert "lacks the weight visual_projection.weight" in sentence(tmp_path, CheckpointError)


@pytest.mark.parametrize(
    ("make", "name"),
    [(tiny_clip, "text_projection.weight"), (tiny_siglip, "logit_bias"), (tiny_vit, "vit.embeddings.cls_token")],
)
def test_a_weight_of_another_shape_is_refused(tmp_path: Path, make: Callable[[Path], Any], name: str) -> None:
    make(tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    state[name] = torch.zeros(3, 7)
    save_file(state, tmp_path / WEIGHTS)
    assert "shape" in sentence(tmp_path, CheckpointError)


def test_another_architecture_is_refused_by_its_name(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    found = sentence(tmp_path, CheckpointError)
    assert "holds a BertModel, which no model here reads" in found and "CLIPModel" in found


def test_a_folder_that_names_no_architecture_is_refused(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    edit(tmp_path / "config.json", lambda plain: plain.pop("architectures"))
    assert "unknown architecture" in sentence(tmp_path, CheckpointError)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_truncated_configuration_is_refused_by_name(tmp_path: Path, content: str) -> None:
    tiny_clip(tmp_path)
    (tmp_path / "config.json").write_text(content)
    assert "config.json" in sentence(tmp_path, CheckpointError)


def test_an_activation_that_is_not_here_is_refused_with_those_that_are(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    edit(tmp_path / "config.json", lambda plain: plain["text_config"].update(hidden_act="mish"))
    assert "activation 'mish' is not done here; known: gelu" in sentence(tmp_path, ConfigError)


def test_a_folder_without_preprocessing_or_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert "no tokenizer in" in sentence(tmp_path, DataError)
    (tmp_path / "preprocessor_config.json").unlink()
    assert "lacks preprocessor_config.json" in sentence(tmp_path, CheckpointError)


def test_resampling_that_is_not_here_is_refused(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    edit(tmp_path / "preprocessor_config.json", lambda plain: plain.update(resample=1))
    assert "resampling 1 is not done here" in sentence(tmp_path, ConfigError)


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"shortest_edge": 20}},
        {"do_resize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"crop_size": {"height": 12, "width": 12}},
        {"do_center_crop": False},
    ],
)
def test_preprocessing_that_would_be_done_otherwise_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    tiny_clip(tmp_path)
    edit(tmp_path / "preprocessor_config.json", lambda plain: plain.update(change))
    assert "preprocessor_config.json" in sentence(tmp_path, ConfigError)


def test_a_path_that_is_not_there_is_one_sentence() -> None:
    assert sentence("./no/such/folder", CheckpointError).startswith("no model at ./no/such/folder: name a run folder,")


def test_a_hub_id_without_a_connection_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    found = sentence("no-such-organisation/no-such-model", DiptychError)
    assert "no folder named no-such-organisation/no-such-model" in found


@pytest.mark.parametrize("read", [load, clip.weights_from])
def test_a_hub_id_is_the_folder_that_the_hub_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[str], Predictor]
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    tiny_clip(tmp_path)
    asked: list[str] = []

    def snapshot_download(name: str, ignore_patterns: list[str]) -> str:
        asked.append(name)
        assert not any(fnmatch("model.safetensors", pattern) for pattern in ignore_patterns)
        assert any(fnmatch("flax_model.msgpack", pattern) for pattern in ignore_patterns)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert read("some-organisation/some-clip").name == tmp_path.name
    assert asked == ["some-organisation/some-clip"]


def test_a_tokenizer_that_ends_texts_elsewhere_than_the_model_reads_them_is_refused(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    edit(tmp_path / "config.json", lambda plain: plain["text_config"].update(eos_token_id=5))
    assert "reads texts at token 5, its tokenizer ends them with 16" in sentence(tmp_path, ConfigError)
