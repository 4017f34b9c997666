"""A judge of `transformers`: tiny random ones of both kinds write what the library writes, and are pinned."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from diptych.core.errors import CheckpointError, ConfigError
from diptych.evaluation.answers.text_judge import TextJudge

transformers = pytest.importorskip("transformers")

PROMPT = "Question: 'what colour?' Candidate: 'red' Output:"


def write_folder(folder: Path, encodes: bool, context: int = 256, template: str | None = None) -> Path:
    """A random T5 or GPT-2 with words that are letters."""
    letters = Tokenizer(models.BPE(unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<pad>", "<end>", "<unk>"], show_progress=False)
    letters.train_from_iterator([PROMPT, "rating=1 rating=2 rating=3 because of what people saw"], trainer)
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=letters, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )
    words.chat_template = template
    words.save_pretrained(folder)
    torch.manual_seed(1)
    if encodes:
        sizes = transformers.T5Config(
            vocab_size=120, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0,
            pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
        model = transformers.T5ForConditionalGeneration(sizes)
    else:
        sizes = transformers.GPT2Config(
            vocab_size=120, n_embd=16, n_layer=1, n_head=2, n_positions=context, bos_token_id=1, eos_token_id=1
        )
        model = transformers.GPT2LMHeadModel(sizes)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("encodes", [False, True], ids=["causal", "encoder-decoder"])
def test_it_writes_what_the_likeliest_tokens_say(encodes: bool, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, encodes)
    judge = TextJudge(str(folder), max_tokens=5)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    kind = transformers.AutoModelForSeq2SeqLM if encodes else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(folder).eval()
    read, said = torch.tensor([words(PROMPT)["input_ids"]]), torch.tensor([[0]])
    for _ in range(5):  # one token after another, by whole passes
        with torch.no_grad():
            if encodes:
                step = model(input_ids=read, decoder_input_ids=said).logits
            else:
                step = model(input_ids=torch.cat([read, said[:, 1:]], 1)).logits
        said = torch.cat([said, step[:, -1:].argmax(-1)], 1)
        if said[0, -1] == 1:
            break
    expected = words.decode(said[0, 1:], skip_special_tokens=True).strip()
    assert judge.write(PROMPT) == expected == judge.write(PROMPT)
    assert expected


def test_it_says_what_it_is(tmp_path: Path) -> None:
    first = TextJudge(str(write_folder(tmp_path / "a", encodes=False))).described()
    other = TextJudge(str(write_folder(tmp_path / "b", encodes=True))).described()
    assert first == TextJudge(str(tmp_path / "a")).described()
    assert first["weights"] != other["weights"] and first["model"] == str(tmp_path / "a")
    assert (first["revision"], first["chat_template"]) == ("a local folder", "none")


def test_a_chat_template_is_used(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }} people saw{% endfor %}"
    with_template = TextJudge(str(write_folder(tmp_path / "a", False, template=template)), max_tokens=4)
    plain = TextJudge(str(write_folder(tmp_path / "b", False)), max_tokens=4)
    assert with_template.write(PROMPT) == plain.write(f"{PROMPT} people saw")
    assert with_template.described()["chat_template"] != "none"


def test_what_cannot_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name its commit with judge_revision"):
        TextJudge("org/name")
    with pytest.raises(CheckpointError, match="cannot be read as a language model that judges"):
        TextJudge(str(tmp_path))
    short = TextJudge(str(write_folder(tmp_path / "short", encodes=False, context=32)), max_tokens=20)
    with pytest.raises(ConfigError, match=r"reads 32 tokens, and a prompt has .* judge_examples"):
        short.write(PROMPT)
