"""Captions as token ids: one `Tokenizer` for a fitted byte-level BPE, CLIP's vocabulary, or any `tokenizer.json`.

B batch, T tokens. Control tokens are added here, by id, never by the wrapped tokenizer, and a caption that spells one
out ("<end>") is tokenised as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.core.processor import TokenCount
from diptych.core.seeding import hash_to_int
from diptych.core.storage import atomic_file, write_text
from diptych.data.words.tokenizer_files import SpecialIds, read_folder, read_json

START, END, PAD, MASKED = "<start>", "<end>", "<pad>", "<mask>"
_CONTROL = (START, END, PAD)
_NAMES = "special_tokens_map.json"
_MOST_KNOWN = 100_000
"""Texts whose ids are remembered: some 50 MB."""


class Tokenizer:
    """Text -> ids, with the ids of the control tokens known by number.

    Attributes:
        start_id: put before every text; None where the vocabulary has no such token (SigLIP).
        end_id: put after every text.
        pad_id: fills a batch; may equal `end_id` (CLIP) or any ordinary id.
        mask_id: stands for a token that is to be filled in; None where the vocabulary has no such token.
        vocab_size: the number of rows an embedding needs, one more than the largest id.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, start_id: int | None, end_id: int, pad_id: int, mask_id: int | None = None
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self.backend = backend
        self.start_id = start_id
        self.end_id = end_id
        self.pad_id = pad_id
        self.mask_id = mask_id
        self.vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values())
        for name, index in (("start", start_id), ("end", end_id), ("pad", pad_id), ("mask", mask_id)):
            if index is not None and not 0 <= index < self.vocab_size:
                raise ConfigError(f"the {name} token's id {index} is outside the vocabulary of {self.vocab_size}")
        self._head = [] if start_id is None else [start_id]
        self._known: dict[str, list[int]] = {}

    @classmethod
    def fit(cls, texts: Iterable[str], vocab_size: int = 8192, lowercase: bool = True, mask: bool = False) -> Tokenizer:
        """A byte-level BPE of these texts (Sennrich et al. 2016; bytes as in GPT-2): nothing is out of vocabulary.

        Args:
            texts: captions; the same texts in the same order give the same tokenizer.
            vocab_size: upper bound, control tokens and the 256 bytes included.
            lowercase: whether "Dog" and "dog" are the same text.
            mask: whether there is a mask token, for models that fill in words.

        Raises:
            ConfigError: `vocab_size` has no room for the bytes.
        """
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        control = [*_CONTROL, MASKED] if mask else list(_CONTROL)
        if vocab_size < len(alphabet) + len(control):
            least = len(alphabet) + len(control)
            raise ConfigError(f"vocab_size {vocab_size} is too small: bytes and control tokens alone take {least}")
        backend = tokenizers.Tokenizer(models.BPE())
        steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
        squeeze = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
        backend.normalizer = normalizers.Sequence([*steps, squeeze, normalizers.Strip()])
        # A leading space makes a word the same token at the start of a caption and inside it.
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=control, initial_alphabet=alphabet, show_progress=False
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend, *range(len(control)))  # control tokens are given the first ids

    @classmethod
    def read(
        cls,
        path: Path | str,
        *,
        start_id: int | None = None,
        end_id: int | None = None,
        pad_id: int | None = None,
        mask_id: int | None = None,
    ) -> Tokenizer:
        """Reads a `tokenizer.json`, of ours or of a public model, or a folder that holds one.

        The control tokens are those given here, else those that the file's own post-processor adds and that its
        padding or the folder's `special_tokens_map.json` or `tokenizer_config.json` name; they are never guessed
        from how a token is spelled.

        Raises:
            DataError: nothing there, not a tokenizer, or a control token that no file names.
        """
        given = SpecialIds(start_id, end_id, pad_id, mask_id)
        read = read_folder(Path(path), given) if Path(path).is_dir() else read_json(Path(path), given)
        return cls(*read)

    @classmethod
    def from_folder(cls, folder: Path | str) -> Tokenizer:
        """The tokenizer of a `transformers` folder: `tokenizer.json`, or CLIP's `vocab.json` with `merges.txt`.

        Raises:
            DataError: as for `read`.
        """
        return cls(*read_folder(Path(folder), SpecialIds()))

    def write(self, path: Path | str) -> None:
        """Writes a `tokenizer.json` that names its control tokens itself: other libraries read it too.

        A mask token, which that file has no place for, is named in a `special_tokens_map.json` beside it.
        """
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        ends = {self.end_id: self._token(self.end_id)}
        pattern = f"$A {ends[self.end_id]}"
        if self.start_id is not None:
            ends[self.start_id] = self._token(self.start_id)
            pattern = f"{ends[self.start_id]} {pattern}"
        pieces = [(token, index) for index, token in ends.items()]
        backend.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=pieces)
        backend.enable_padding(pad_id=self.pad_id, pad_token=self._token(self.pad_id))
        with atomic_file(Path(path)) as part:
            part.write_text(backend.to_str(pretty=True), encoding="utf-8")
            part.chmod(0o644)
        if self.mask_id is not None:
            write_text(Path(path).parent / _NAMES, json.dumps({"mask_token": self._token(self.mask_id)}) + "\n")

    def encode(self, texts: Sequence[str], max_length: int, remember: bool = True) -> list[list[int]]:
        """Ids of each text, at most `max_length` with the control tokens; what is cut off never includes the end.

        Args:
            remember: whether the ids of a lone text are kept; False for one that will not come again.

        Raises:
            ConfigError: `max_length` has no room for a single token of text.
        """
        room = max_length - len(self._head) - 1
        if room < 1:
            raise ConfigError(f"max_length {max_length} leaves no room for text between the control tokens")
        if len(texts) == 1:  # the batch entry starts threads of its own, which worker threads must not
            bodies = [self._body(texts[0], remember)]
        else:
            bodies = [e.ids for e in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        return [[*self._head, *body[:room], self.end_id] for body in bodies]

    def _body(self, text: str, remember: bool) -> list[int]:
        """Ids of one text, remembered: captions come again in every epoch, and encoding one holds up other threads."""
        body = self._known.get(text)
        if body is None:
            body = self.backend.encode(text, add_special_tokens=False).ids
            if remember and len(self._known) < _MOST_KNOWN:
                self._known[text] = body
        return body

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, up to the first end token; control tokens leave nothing behind."""
        body = list(ids[: ids.index(self.end_id)] if self.end_id in ids else ids)
        dropped = {self.start_id, self.pad_id, self.mask_id}
        return str(self.backend.decode([i for i in body if i not in dropped], skip_special_tokens=True)).strip()

    @property
    def num_control(self) -> int:
        """How many control tokens every text carries."""
        return len(self._head) + 1

    @property
    def control_ids(self) -> frozenset[int]:
        """The ids that are no text: start, end, pad and mask."""
        ids = (self.start_id, self.end_id, self.pad_id, self.mask_id)
        return frozenset(index for index in ids if index is not None)

    @cached_property
    def text_ids(self) -> Tensor:
        """int64, ascending: every id that is no control token."""
        return torch.tensor([index for index in range(self.vocab_size) if index not in self.control_ids])

    def _token(self, index: int) -> str:
        return str(self.backend.id_to_token(index))


def pad_tokens(ids: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Stacks rows of different length.

    Args:
        ids: a row of ids for each text.
        length: pad to this; by default to the longest row.

    Returns:
        tokens_BT int64 and lengths_B int64, control tokens counted.
    """
    lengths = [len(row) for row in ids]
    longest = max(lengths, default=0) if length is None else length
    tokens_BT = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in ids], dtype=torch.int64)
    return tokens_BT.reshape(len(ids), longest), torch.tensor(lengths, dtype=torch.int64)


def read_back(
    tokenizer: Tokenizer, tokens_BT: Tensor, lengths_B: Tensor, limit: int
) -> Iterator[tuple[str, TokenCount]]:
    """What a batch of rows says, decoded, and how long each is.

    Args:
        limit: the longest row there can be.
    """
    padded = tokens_BT.shape[1]
    for ids, used in zip(tokens_BT.tolist(), lengths_B.tolist(), strict=True):
        yield tokenizer.decode(ids[:used]), TokenCount(used, padded, limit)


def text_labels(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """int64 [B], equal for rows of equal tokens, whatever their padding: a sum of products with random odd numbers.

    Rows that differ agree by chance about once in 2^62 pairs.
    """
    longest = tokens_BT.shape[1]
    factors_T = torch.tensor([hash_to_int("place", place) | 1 for place in range(longest)], device=tokens_BT.device)
    inside_BT = torch.arange(longest, device=tokens_BT.device) < lengths_B[:, None]
    return ((tokens_BT + 1) * inside_BT * factors_T).sum(1)  # overflow wraps round
