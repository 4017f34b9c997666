"""Tokenizers: fitted, read, written, and equal to transformers' on CLIP's files."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from diptych.core.errors import ConfigError, DataError
from diptych.data.words.tokenizer import Tokenizer, pad_tokens

CAPTIONS = ["A dog runs on the grass.", "two cats sit on the mat", "a man and his dog, running"] * 5
SENTENCES = ["A  dog's mat!", "TWO cats runs 42 times", "naïve café 犬", "the dog dog dog dog dog", "it's\nhere"]


@pytest.fixture(scope="module")
def fitted() -> Tokenizer:
    return Tokenizer.fit(CAPTIONS, vocab_size=320)


def test_every_text_has_both_control_tokens(fitted: Tokenizer) -> None:
    for row in fitted.encode([*SENTENCES, ""], 40):
        assert row[0] == fitted.start_id and row[-1] == fitted.end_id
        assert fitted.pad_id not in row and fitted.end_id not in row[:-1]


def test_truncation_keeps_the_end(fitted: Tokenizer) -> None:
    long = fitted.encode(["a dog runs on the grass"], 40)[0]
    short = fitted.encode(["a dog runs on the grass"], 4)[0]
    assert short == [*long[:3], fitted.end_id]


def test_one_text_is_encoded_as_many_are(fitted: Tokenizer) -> None:
    assert [fitted.encode([s], 30)[0] for s in SENTENCES] == fitted.encode(SENTENCES, 30)


def test_nothing_is_out_of_vocabulary(fitted: Tokenizer) -> None:
    assert fitted.decode(fitted.encode(["naïve café 犬"], 60)[0]) == "naïve café 犬"


def test_words_are_the_same_at_the_start_and_inside(fitted: Tokenizer) -> None:
    dog, a_dog = fitted.encode(["dog", "a dog"], 9)
    assert a_dog[-2:] == dog[-2:] and len(dog) == 3


def test_lower_casing_is_an_option() -> None:
    lower, cased = Tokenizer.fit(CAPTIONS, 320), Tokenizer.fit(CAPTIONS, 320, lowercase=False)
    assert lower.encode(["DOG"], 9) == lower.encode(["dog"], 9)
    assert cased.encode(["DOG"], 9) != cased.encode(["dog"], 9)


def test_a_spelled_out_control_token_is_plain_text(fitted: Tokenizer) -> None:
    row = fitted.encode(["a <end> of <pad>"], 40)[0]
    assert row.count(fitted.end_id) == 1 and fitted.pad_id not in row


def test_fitting_is_deterministic(fitted: Tokenizer) -> None:
    assert Tokenizer.fit(CAPTIONS, vocab_size=320).backend.to_str() == fitted.backend.to_str()


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="too small"):
        Tokenizer.fit(CAPTIONS, vocab_size=200)


def test_a_length_without_room_for_text_is_refused(fitted: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="max_length 2"):
        fitted.encode(["a"], 2)


def test_writing_and_reading_gives_the_same(fitted: Tokenizer, tmp_path: Path) -> None:
    fitted.write(tmp_path / "tokenizer.json")
    for read in (Tokenizer.read(tmp_path / "tokenizer.json"), Tokenizer.from_folder(tmp_path)):
        assert (read.start_id, read.end_id, read.pad_id) == (fitted.start_id, fitted.end_id, fitted.pad_id)
        assert read.vocab_size == fitted.vocab_size
        assert read.encode(SENTENCES, 12) == fitted.encode(SENTENCES, 12)


def test_a_truncated_file_is_refused(fitted: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    fitted.write(path)
    path.write_text(path.read_text()[:500])
    with pytest.raises(DataError, match="truncated or no tokenizer"):
        Tokenizer.read(path)
    with pytest.raises(DataError, match="no tokenizer at"):
        Tokenizer.read(tmp_path / "other.json")


def sentence_piece_like(path: Path, padding: bool) -> None:
    """A tokenizer.json with an end and no start, as SigLIP has it."""
    backend = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "</s>": 2, "dog": 3}, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    if padding:
        backend.enable_padding(pad_id=1, pad_token="<pad>")
    backend.save(str(path))


def test_a_vocabulary_without_start(tmp_path: Path) -> None:
    sentence_piece_like(tmp_path / "tokenizer.json", padding=True)
    read = Tokenizer.read(tmp_path / "tokenizer.json")
    assert (read.start_id, read.end_id, read.pad_id) == (None, 2, 1)
    assert read.encode(["dog dog dog"], 3) == [[3, 3, 2]]
    read.write(tmp_path / "again.json")
    again = Tokenizer.read(tmp_path / "again.json")
    assert (again.start_id, again.end_id, again.pad_id) == (None, 2, 1)


def test_control_tokens_are_named_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    sentence_piece_like(path, padding=False)
    with pytest.raises(DataError, match="which token is its pad: give pad_id"):
        Tokenizer.read(path)
    assert Tokenizer.read(path, pad_id=2).pad_id == 2
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "</s>"}}))
    assert Tokenizer.read(path).pad_id == 2


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP's layout of files with a small vocabulary: bytes, bytes at word ends, merges, control tokens."""
    folder = tmp_path_factory.mktemp("clip")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("d", "o"), ("do", "g</w>"), ("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t"), ("'", "s</w>")]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    named = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    named["unk_token"] = "<|endoftext|>"
    (folder / "special_tokens_map.json").write_text(json.dumps(named))
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, "tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_clip_files_tokenise_as_in_transformers(clip_folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer.from_pretrained(clip_folder)
    ours = Tokenizer.from_folder(clip_folder)
    expected = theirs(SENTENCES, truncation=True, max_length=20)["input_ids"]
    assert ours.encode(SENTENCES, 20) == expected
    assert (ours.start_id, ours.end_id, ours.pad_id) == (
        theirs.bos_token_id,
        theirs.eos_token_id,
        theirs.pad_token_id,
    )
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert Tokenizer.from_folder(tmp_path).encode(SENTENCES, 20) == expected
    assert ours.decode(ours.encode(["the dog's café"], 30)[0]) == "the dog 's café"


def test_a_folder_of_another_vocabulary_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_text((clip_folder / name).read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    with pytest.raises(DataError, match="GPT2Tokenizer"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(DataError, match="no tokenizer in"):
        Tokenizer.from_folder(tmp_path / "nowhere")


def test_padding_is_to_the_longest_or_to_a_length() -> None:
    tokens_BT, lengths_B = pad_tokens([[5, 6, 7], [8]], pad_id=9)
    assert tokens_BT.tolist() == [[5, 6, 7], [8, 9, 9]] and lengths_B.tolist() == [3, 1]
    tokens_BT, _ = pad_tokens([[5, 6, 7], [8]], pad_id=9, length=4)
    assert tokens_BT.tolist() == [[5, 6, 7, 9], [8, 9, 9, 9]]
    tokens_BT, lengths_B = pad_tokens([], pad_id=9)
    assert tokens_BT.shape == (0, 0) and lengths_B.shape == (0,)


def test_a_text_that_comes_again_has_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.data.words.tokenizer._MOST_KNOWN", 1)
    tokenizer = Tokenizer.fit(["a red circle", "a blue square"], 300)
    for text in ("a red circle", "a blue square", "a red circle", "a blue square"):
        (once,) = tokenizer.encode([text], 77)
        assert once == tokenizer.encode([text, text], 77)[1]
        assert once == [tokenizer.start_id, *tokenizer.backend.encode(text).ids, tokenizer.end_id]
        once.clear()  # the caller's own list
    assert tokenizer.encode(["a red circle"], 5)[0] == tokenizer.encode(["a red circle", ""], 5)[0]


def test_texts_that_will_not_come_again_are_not_remembered() -> None:
    tokenizer = Tokenizer.fit(["a cat"], 300)
    first = tokenizer.encode(["a dog"], 16, remember=False)
    assert not tokenizer._known
    assert tokenizer.encode(["a dog"], 16) == first and list(tokenizer._known) == ["a dog"]
