"""A language model of `transformers` that reads a prompt and writes: a judge of answers, pinned to what it is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from diptych.core.errors import CheckpointError, ConfigError, MissingExtra
from diptych.evaluation.model_hash import model_hash

_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError)


class Writes(Protocol):
    """What a judge is to a benchmark: a text that goes on after a prompt, and what it is."""

    def write(self, prompt: str) -> str:
        """What comes after the prompt, greedily.

        Raises:
            ConfigError: the prompt does not fit.
        """
        ...

    def described(self) -> dict[str, str]:
        """Everything that its words depend on."""
        ...


class TextJudge:
    """A causal or an encoder-decoder language model, greedy, one prompt at a time.

    A model with a chat template is asked as a user would ask it.

    Args:
        reference: a `transformers` folder, or a hub id.
        revision: of a hub id: the commit, without which it could be another model tomorrow.
        device: where its weights are put.
        max_tokens: of what it writes.

    Raises:
        ConfigError: a hub id without a revision.
        CheckpointError: it cannot be read.
        MissingExtra: transformers is not installed.
    """

    def __init__(
        self, reference: str, revision: str = "", device: str | torch.device = "cpu", max_tokens: int = 96
    ) -> None:
        if not Path(reference).is_dir() and not revision:
            raise ConfigError(
                f"the judge {reference} is no folder, and a hub id changes: name its commit with judge_revision"
            )
        self._reference, self._revision, self._max_tokens = reference, revision, max_tokens
        self._words, self._model, self._encodes = _read(reference, revision)
        self._model.eval().to(device)

    @torch.inference_mode()
    def write(self, prompt: str) -> str:
        """What the judge says."""
        tokens_1T = self._tokens(prompt)
        most = getattr(self._model.config, "max_position_embeddings", None)
        if most and not self._encodes and tokens_1T.shape[1] + self._max_tokens > most:
            raise ConfigError(
                f"the judge {self._reference} reads {most} tokens, and a prompt has {tokens_1T.shape[1]} with "
                f"{self._max_tokens} to write: give it fewer examples with judge_examples"
            )
        model: Any = self._model
        written = model.generate(
            tokens_1T.to(model.device), attention_mask=torch.ones_like(tokens_1T).to(model.device), do_sample=False,
            num_beams=1, max_new_tokens=self._max_tokens, pad_token_id=self._padding(),
        )[0]  # fmt: skip
        new = written if self._encodes else written[tokens_1T.shape[1] :]
        return str(self._words.decode(new, skip_special_tokens=True)).strip()

    def _tokens(self, prompt: str) -> torch.Tensor:
        if getattr(self._words, "chat_template", None):
            turns = [{"role": "user", "content": prompt}]
            text = self._words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            return torch.tensor([self._words(text, add_special_tokens=False)["input_ids"]])
        return torch.tensor([self._words(prompt)["input_ids"]])

    def _padding(self) -> int:
        own, end = self._words.pad_token_id, self._words.eos_token_id
        return int(own if own is not None else end if end is not None else 0)

    def described(self) -> dict[str, str]:
        """Folder or id, revision, a hash of the weights, and whether a chat template is used."""
        template = getattr(self._words, "chat_template", None)
        return {
            "model": self._reference,
            "revision": self._revision or "a local folder",
            "weights": model_hash(self._model),
            "chat_template": hashlib.sha256(str(template).encode()).hexdigest()[:16] if template else "none",
        }


def _read(reference: str, revision: str) -> tuple[Any, nn.Module, bool]:
    """The tokenizer, the model, and whether it encodes the prompt apart."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingExtra("transformers", "transformers", f"the judge {reference}") from error
    from_where: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        config = transformers.AutoConfig.from_pretrained(reference, trust_remote_code=False, **from_where)
        words = transformers.AutoTokenizer.from_pretrained(reference, trust_remote_code=False, **from_where)
        encodes = bool(getattr(config, "is_encoder_decoder", False))
        kind: Any = transformers.AutoModelForSeq2SeqLM if encodes else transformers.AutoModelForCausalLM
        model = kind.from_pretrained(reference, trust_remote_code=False, **from_where)
    except _UNREADABLE as error:
        reason = f"{error}".partition("\n")[0]
        raise CheckpointError(f"{reference} cannot be read as a language model that judges: {reason}") from error
    return words, model, encodes
