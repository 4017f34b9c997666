"""docs/howto_fine_tune.md from its first command to its last, as it stands, on small models and few steps."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from PIL import Image as Pillow

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.records.run_folder import RunFolder
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.pixels.decode import decode
from diptych.data.pixels.images import CLIP_MEAN, CLIP_STD, ImagePreprocessing
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.chat import PlainTemplate
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.causal_block import CausalConfig
from diptych.layers.connectors import ConnectorConfig
from diptych.models.contrastive import clip
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._llama import Llama, LlamaConfig
from diptych.models.pretrained_backbone._patch_features import PatchFeatures

PAGE = Path(__file__).parents[2] / "docs" / "howto_fine_tune.md"
BLOCKS = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLIP, LLAVA = "openai/clip-vit-base-patch32", "llava-hf/llava-1.5-7b-hf"
HF: Any = transformers
COUNT, SIDE = 30, 32
SHORT = ["--budget.steps", "6", "--batch_size", "8", "--threads", "1", "--evaluate_every", "3", "--held_out", "6",
         "--schedule.warmup", "1", "--optimizer.lr", "1e-2"]  # fmt: skip


def commands() -> list[list[str]]:
    """Every command line of the page, without `diptych`."""
    lines = [line for block in BLOCKS.findall(PAGE.read_text(encoding="utf-8")) for line in block.splitlines()]
    words = [shlex.split(line) for line in lines]
    assert all(line[0] == "diptych" for line in words)
    return [line[1:] for line in words]


def write_data(folder: Path, scenes: Scenes) -> None:
    """Pictures of scenes with captions and conversations, in the files that the page names."""
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": [], "talks": []}
    (folder / "beach").mkdir(parents=True)
    for index in range(COUNT):
        sample, name = scenes[index], f"beach/{index:03d}.png"
        Pillow.fromarray(decode(sample.image)).save(folder / name)
        rows["train" if index < COUNT - 8 else "test"].append({"file": name, "caption": sample.texts[0]})
        said = [("human", f"<image>\n{sample.turns[0].text}"), ("gpt", sample.turns[1].text)]
        talk = [{"from": who, "value": text} for who, text in said]
        rows["talks"].append({"id": str(index), "image": name, "conversations": talk})
    for part, some in rows.items():
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")


def small_llava(tokenizer: Tokenizer) -> llava.LlavaPredictor:
    image = ImagePreprocessing(SIDE, mean=CLIP_MEAN, std=CLIP_STD, views=None)
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tower = HF.CLIPVisionModel(HF.CLIPVisionConfig(**sizes, image_size=SIDE, patch_size=8)).eval()
    words = PlainTemplate(end=str(tokenizer.backend.id_to_token(tokenizer.end_id)))
    processor = ConversationProcessor(ConversationConfig(image, 16), tokenizer, words)
    language = Llama(LlamaConfig(CausalConfig(32, 2, 4, 48), tokenizer.vocab_size, 128))
    config = llava.Config(ConnectorConfig("mlp"))
    features = PatchFeatures(tower, False, image.mean, image.std, config.layer)
    module = llava.LlavaPredictor.build(config, processor, features, language)
    return llava.LlavaPredictor(config, processor, module.eval(), "small")


class FakeHub:
    """Keeps what was uploaded."""

    uploaded: list[tuple[str, set[str]]]

    def create_repo(self, repository: str, private: bool, exist_ok: bool) -> Any:
        assert private and exist_ok
        return SimpleNamespace(repo_id=repository)

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> str:
        self.uploaded.append((repo_id, {path.name for path in Path(folder_path).iterdir()}))
        return "https://hub/commit"


@pytest.mark.slow
def test_the_page_leads_from_files_to_published_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub()
    hub.uploaded = []
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.chdir(tmp_path)
    scenes = Scenes("train", COUNT, SceneConfig(SIDE, 1, words=0.0))
    write_data(tmp_path / "photos", scenes)
    torch.manual_seed(0)
    samples = [scenes[index] for index in range(COUNT)]
    base = clip.tiny_tasks(samples)["contrastive"].eval().predictor()
    export(base, CLIP)
    spoken = [turn.text for sample in samples for turn in sample.turns] + ["USER: ASSISTANT:"]
    export(small_llava(Tokenizer.fit(spoken, 320)), LLAVA)

    for line in commands():
        more = SHORT if line[0] in ("train", "check") else []
        assert main([*line, *more]) == 0, line

    written = (tmp_path / "my-clip" / "README.md").read_text(encoding="utf-8")
    assert "license: mit" in written and "| retrieval | photos/test.jsonl test | image_to_text_r1 |" in written
    assert hub.uploaded[0][0] == "me/my-clip" and "model.safetensors" in hub.uploaded[0][1]
    HF.CLIPModel.from_pretrained(tmp_path / "my-clip")
    tuned, first = load(tmp_path / "my-clip"), samples[0]
    assert not torch.equal(tuned.encode_image([first.image]), base.encode_image([first.image]))
    assert torch.allclose(tuned.encode_image([first.image]), load("runs/clip").encode_image([first.image]), atol=1e-5)

    steps = [
        line["evaluation"]["log_likelihood"] for line in RunFolder(Path("runs/llava")).lines() if "evaluation" in line
    ]
    assert steps[-1] > steps[0]
    HF.LlavaForConditionalGeneration.from_pretrained(tmp_path / "my-llava")
    question = samples[0].turns[0].text
    assert load("my-llava").answer([first.image], [question]) == load("runs/llava").answer([first.image], [question])
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == COUNT + 1
    assert "«" in capsys.readouterr().out or (tmp_path / "check_llava_finetune.png").is_file()
