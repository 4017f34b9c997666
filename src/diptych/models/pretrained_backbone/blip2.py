"""BLIP-2, first stage: a Q-Former between a frozen vision tower and text, taught by three objectives in one pass.

Li et al. 2023, "BLIP-2", arXiv 2301.12597, section 3.1. Contrast: a text is as close to a picture as to the closest of
its queries. Matching: queries that are told the text say whether it belongs to the picture, against hard negatives of
the global batch. Writing: the text, word by word, told the queries. Queries and text see each other, or not, as each
objective asks (layers/qformer.py). The parts weigh the same.

Departures from the released code: hard negatives are drawn over the global batch and never from the same caption or
picture; a text is drawn against all pictures of the batch, whatever it is cut into.

B pairs, S features of a picture, C their width, Q queries, T tokens, D width, E joint width, A anchors, R rows, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.capabilities.derive import same_length
from diptych.capabilities.generator import GREEDY, Likelihood, Prompt
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import Comparable
from diptych.core.config import ModelConfig, from_plain, to_plain
from diptych.core.errors import ConfigError, TextTooLong
from diptych.core.losses import IGNORED, Losses, Part, Scope
from diptych.core.sample import Sample
from diptych.core.sampling import TextSampling, seeds_for
from diptych.core.seeding import hash_to_int, uniform
from diptych.core.task import AnchoredTask, Features, LocalOutput
from diptych.data.image_text import (
    ImagePreprocessing,
    ImageTextBatch,
    ImageTextConfig,
    ImageTextProcessor,
    TextPreprocessing,
)
from diptych.data.text import Tokenizer, pad_tokens, text_labels
from diptych.decoding.beam import beam_search
from diptych.decoding.write import write
from diptych.layers.bert import BertConfig, MaskedWordHead
from diptych.layers.pretrained import backbone_from_config, tiny_vision_backbone
from diptych.layers.qformer import QFormer, QFormerConfig
from diptych.models._batches import batches
from diptych.models.generative._captioning import Beginning, beginning_of, joined, likelihood_rows
from diptych.models.generative._prompts import start_of
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.objectives.autoregressive import next_token_labels, next_token_loss, token_log_probabilities
from diptych.objectives.best_query import best_query, best_query_contrast
from diptych.objectives.hard_matching import draw_hard, others

VERBS = ("score", "score_pairs", "generate_text", "text_likelihood")
READS = ()

PREDICTION_BATCH = 64
TEMPERATURE = 0.07
"""At first; it is learned as it is, a divisor."""


@dataclass(frozen=True)
class Config(ModelConfig):
    """Sizes; the defaults are BLIP-2's on a ViT-g.

    Attributes:
        qformer: its vocabulary has one token more than the tokenizer: it begins what is written.
        joint: E.
        layer, special: of the tower: which states, and how many tokens before the patches are left out.
        smoothing: of the contrast's labels.
    """

    qformer: QFormerConfig = field(default_factory=QFormerConfig)
    joint: int = 256
    layer: int = -2
    special: int = 0
    smoothing: float = 0.1

    def with_vocabulary(self, size: int) -> Self:
        """The same sizes for another tokenizer."""
        return replace(self, qformer=replace(self.qformer, vocabulary=size + 1))


class Blip2(nn.Module):
    """Tower, Q-Former, two maps into the joint space, and heads for matching and for words."""

    def __init__(self, config: Config, tower: PatchFeatures) -> None:
        super().__init__()
        sizes = config.qformer
        self.config, self.tower, self.qformer = config, tower, QFormer(sizes)
        self.norm = nn.LayerNorm(sizes.image_width)
        self.image_head = nn.Linear(sizes.width, config.joint)
        self.text_head = nn.Linear(sizes.width, config.joint)
        self.match_head = nn.Linear(sizes.width, 2)
        self.word_head = MaskedWordHead(BertConfig(sizes.vocabulary, sizes.context, sizes.width, eps=sizes.eps))
        self.temperature = nn.Parameter(torch.tensor(TEMPERATURE))

    @property
    def begin(self) -> int:
        """The token that begins what is written."""
        return self.config.qformer.vocabulary - 1

    def see(self, pixels_BCHW: Tensor) -> Tensor:
        """Features [B, S, C] of pictures."""
        out: Tensor = self.norm(self.tower(pixels_BCHW))
        return out

    def image_vectors(self, image_BSC: Tensor) -> Tensor:
        """Unit vectors [B, Q, E]."""
        return F.normalize(self.image_head(self.qformer.see(image_BSC)), dim=-1)

    def text_vectors(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Unit vectors [B, E], of the first token."""
        return F.normalize(self.text_head(self.qformer.read(tokens_BT, lengths_B)[:, 0]), dim=-1)

    def matching(self, image_RSC: Tensor, tokens_RT: Tensor, lengths_R: Tensor) -> Tensor:
        """Logits [R, 2] of "they do not match" and "they do": the mean over the queries."""
        out: Tensor = self.match_head(self.qformer.match(image_RSC, tokens_RT, lengths_R)).mean(1)
        return out

    def written(self, image_BSC: Tensor, tokens_BT: Tensor) -> Tensor:
        """States [B, T, D] of a text that is written, its first token replaced by what begins it."""
        begun_BT = torch.cat([torch.full_like(tokens_BT[:, :1], self.begin), tokens_BT[:, 1:]], dim=1)
        return self.qformer.write(image_BSC, begun_BT)

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        assert self.qformer.words is not None, "the first stage reads text"
        out: Tensor = self.word_head(states, self.qformer.words.weight)
        return out


class Blip2Task(AnchoredTask[ImageTextBatch]):
    """The three objectives; the tower stays as it is."""

    gathered = ("model.qformer", "model.match_head")
    processor: ImageTextProcessor

    def __init__(self, config: Config, processor: ImageTextProcessor, tower: PatchFeatures) -> None:
        super().__init__()
        check_fit(config, processor, tower)
        self.config = config
        self.processor = processor
        self.model = Blip2(config, tower)

    def features(self, batch: ImageTextBatch, phase: str = "main") -> LocalOutput:
        """Unit vectors "image" [B, Q, E] and "text", what matching needs of every sample, and the loss of writing."""
        model = self.model
        image_BSC = model.see(batch.pixels_BCHW)
        context, pad = self.processor.config.text.max_length, self.processor.tokenizer.pad_id
        rows = Features(
            image=model.image_vectors(image_BSC),
            text=model.text_vectors(batch.tokens_BT, batch.lengths_B),
            image_states=image_BSC,
            tokens=F.pad(batch.tokens_BT, (0, context - batch.tokens_BT.shape[1]), value=pad),
            lengths=batch.lengths_B,
            same=_labels(batch),
            draws=uniform(batch.seeds, 2, "negatives").to(batch.lengths_B.device),
        )
        labels_BT = next_token_labels(batch.tokens_BT, batch.lengths_B)
        loss = next_token_loss(model.written(image_BSC, batch.tokens_BT), labels_BT, model.logits).cross_entropy
        return LocalOutput(rows, {"writing": Part(loss, int((labels_BT != IGNORED).sum()))})

    def losses_from(self, features: Features, phase: str = "main") -> Losses:
        close_IJ = best_query(features["image"], features["text"])
        loss, pairs = best_query_contrast(close_IJ, self.model.temperature, self.config.smoothing), len(close_IJ)
        return {"contrast": Part(loss * pairs, pairs, scope=Scope.GLOBAL_BATCH)}

    def anchor_losses(self, features: Features, begin: int, end: int, phase: str = "main") -> Losses:
        """Each anchor's own pair; its picture with a hard text; its text with a hard picture."""
        texts_A, pictures_A, found_A = self.hard_negatives(features, begin, end)
        own_A = torch.arange(begin, end, device=texts_A.device)
        pictures_R, texts_R = torch.cat([own_A, own_A, pictures_A]), torch.cat([own_A, texts_A, own_A])
        lengths_N = features["lengths"]
        tokens_NT = features["tokens"][:, : int(lengths_N.max())]
        logits_R2 = self.model.matching(features["image_states"][pictures_R], tokens_NT[texts_R], lengths_N[texts_R])
        exact_R2 = logits_R2.float() if logits_R2.dtype == torch.bfloat16 else logits_R2
        matches_R = (torch.arange(len(texts_R), device=own_A.device) < len(own_A)).long()
        loss_R = F.cross_entropy(exact_R2, matches_R, reduction="none")
        there_R = torch.cat([torch.ones_like(found_A), found_A, found_A])
        pairs = len(lengths_N) + 2 * int((others(features["same"]) > 0).sum())
        return {"matching": Part((loss_R * there_R).sum(), pairs, scope=Scope.GLOBAL_BATCH)}

    @torch.no_grad()
    def hard_negatives(self, features: Features, begin: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """A text for each anchor's picture, a picture for each anchor's text, and whether the batch has any for it."""
        image_IQE, text_JE, temperature = (
            one.float() for one in (features["image"], features["text"], self.model.temperature)
        )
        same, draws = features["same"], features["draws"]
        allowed_AN = (same[begin:end, None] != same).all(-1)
        texts_A = draw_hard(best_query(image_IQE[begin:end], text_JE) / temperature, allowed_AN, draws[begin:end, 0])
        of_texts_AN = best_query(image_IQE, text_JE[begin:end]).T
        pictures_A = draw_hard(of_texts_AN / temperature, allowed_AN, draws[begin:end, 1])
        return texts_A, pictures_A, allowed_AN.any(1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keeps the temperature a divisor: at least a hundredth, as CLIP's scale is at most 100."""
        self.model.temperature.clamp_(0.01, 1.0)

    def summary(self) -> dict[str, float]:
        return {"temperature": float(self.model.temperature.detach())}

    def predictor(self) -> Blip2Predictor:
        return Blip2Predictor(self.config, self.processor, self.model, "blip2")


def _labels(batch: ImageTextBatch) -> Tensor:
    """Of caption and picture [B, 2]: what is the same is no negative."""
    pictures_B = torch.tensor([hash_to_int("picture", key) for key in batch.keys], device=batch.lengths_B.device)
    return torch.stack([text_labels(batch.tokens_BT, batch.lengths_B), pictures_B], dim=1)


def check_fit(config: Config, processor: ImageTextProcessor, tower: PatchFeatures) -> None:
    """Raises a ConfigError where words, texts or the tower do not fit the sizes."""
    sizes, text = config.qformer, processor.config.text
    start_of(processor.tokenizer)
    if processor.tokenizer.vocab_size + 1 > sizes.vocabulary:
        raise ConfigError(
            f"the tokenizer has {processor.tokenizer.vocab_size} tokens, and a Q-Former of {sizes.vocabulary} takes "
            f"one fewer: one begins what is written"
        )
    if text.max_length > sizes.context:
        raise ConfigError(f"texts of up to {text.max_length} tokens do not fit the {sizes.context} positions")
    _, channels = tower.shape(processor.config.image.size)
    if channels != sizes.image_width:
        raise ConfigError(f"the tower's features are {channels} wide, and qformer.image_width is {sizes.image_width}")


class Blip2Predictor(Predictor):
    """Scores pairs by the best query and by the matching head, and writes captions."""

    VERBS = VERBS
    comparable_over = Comparable.BOTH

    def __init__(self, config: Config, processor: ImageTextProcessor, module: Blip2, name: str) -> None:
        self.config = config
        self.processor = processor
        self.module: Blip2 = module
        self.name = name

    @torch.inference_mode()
    def score(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """The cosine [N, M] of each text with the closest query of each picture, on the CPU."""
        pictures = [self.module.image_vectors(self._see(some)) for some in batches(visuals, PREDICTION_BATCH)]
        said = [self.module.text_vectors(*self._tokens(some)) for some in batches(texts, PREDICTION_BATCH)]
        if not (pictures and said):
            return torch.zeros(len(visuals), len(texts))
        return best_query(torch.cat(pictures), torch.cat(said)).float().cpu()

    @torch.inference_mode()
    def score_pairs(self, visuals: Sequence[Any] | Tensor, texts: Sequence[str]) -> Tensor:
        """[N]: the logit of "they match" minus that of "they do not", of visual i with text i."""
        same_length(visuals, texts)
        rows = [torch.zeros(0)]
        for some, said in zip(batches(visuals, PREDICTION_BATCH), batches(texts, PREDICTION_BATCH), strict=True):
            logits_N2 = self.module.matching(self._see(some), *self._tokens(said)).float()
            rows.append((logits_N2[:, 1] - logits_N2[:, 0]).cpu())
        return torch.cat(rows)

    @torch.inference_mode()
    def generate_text(
        self, prompts: Sequence[Prompt], sampling: TextSampling = GREEDY, seeds: int | Sequence[int] = 0
    ) -> list[str]:
        """A caption of each prompt's picture, after the words that it begins with.

        Raises:
            DiptychError: a prompt is not one picture, then text.
            TextTooLong: a beginning has no room for one more token.
            ConfigError: not one seed a prompt.
        """
        begun = [beginning_of(prompt, self.processor.tokenizer) for prompt in prompts]
        drawn = seeds_for(len(begun), seeds, "prompts")
        written: list[str] = []
        for at in range(0, len(begun), PREDICTION_BATCH):
            some = begun[at : at + PREDICTION_BATCH]
            written += self._written(some, sampling, drawn[at : at + PREDICTION_BATCH])
        return written

    def _written(self, begun: Sequence[Beginning], sampling: TextSampling, seeds: Sequence[int]) -> list[str]:
        words, most = self.processor.tokenizer, self.processor.config.text.max_length
        image_NSC = self._see([one.visual for one in begun])
        decoder = QFormerDecoder(self.module, image_NSC, [one.tokens for one in begun], most)
        rooms = [most - len(one.tokens) for one in begun]
        if sampling.beams > 1:
            rows = beam_search(decoder, rooms, sampling, [words.end_id])
        else:
            rows = write(decoder, rooms, sampling, [words.end_id], seeds if sampling.temperature else ())
        return [words.decode(row).strip() for row in rows]

    @torch.inference_mode()
    def text_likelihood(
        self, visuals: Sequence[Any | None], prompts: Sequence[str], texts: Sequence[str]
    ) -> Likelihood:
        """log p(text i | picture i, prompt i), summed over the text's tokens and its end; None shows the mean colour.

        Raises:
            DiptychError: not one prompt and one text a visual.
            TextTooLong: a prompt with its text does not fit.
        """
        sums, counts = [torch.zeros(0, dtype=torch.float64)], [torch.zeros(0, dtype=torch.int64)]
        for some in batches(likelihood_rows(self.processor, visuals, prompts, texts), PREDICTION_BATCH):
            tokens_NT, _, labels_NT = (part.to(self.device) for part in joined(some, self.processor.tokenizer))
            states_NTD = self.module.written(self._see([row.visual for row in some]), tokens_NT)
            sums.append(token_log_probabilities(self.module.logits(states_NTD), labels_NT).sum(1).cpu())
            counts.append((labels_NT != IGNORED).sum(1).cpu())
        return Likelihood(torch.cat(sums), torch.cat(counts))

    def _see(self, visuals: Sequence[Any | None] | Tensor) -> Tensor:
        """Features of pictures; of one that is not there those of the mean colour."""
        if isinstance(visuals, Tensor):
            return self.module.see(visuals.to(self.device))
        size = self.processor.config.image.size
        prepared_NCHW = torch.zeros(len(visuals), 3, size, size, device=self.device)
        shown = [place for place, visual in enumerate(visuals) if visual is not None]
        if shown:
            pixels = self.processor.pixels([visuals[place] for place in shown]).to(self.device)
            prepared_NCHW[shown] = self.module.tower.prepared(pixels)
        return self.module.see(prepared_NCHW)

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens_NT, lengths_N = self.processor.tokens(texts)
        return tokens_NT.to(self.device), lengths_N.to(self.device)

    def describe(self) -> dict[str, Any]:
        return {"model": to_plain(self.config), "processor": to_plain(self.processor.config)}

    def save_files(self, folder: Path) -> None:
        self.processor.tokenizer.write(folder / "tokenizer.json")
        self.module.tower.write_config(folder / "tower")

    @classmethod
    def restore(cls, description: dict[str, Any], folder: Path) -> Self:
        config = from_plain(Config, description["model"])
        settings = from_plain(ImageTextConfig, description["processor"])
        processor = ImageTextProcessor(settings, Tokenizer.read(folder / "tokenizer.json"))
        image = settings.image
        backbone = backbone_from_config(folder / "tower", "vision")
        tower = PatchFeatures(backbone, False, image.mean, image.std, config.layer, config.special)
        return cls(config, processor, Blip2(config, tower), str(description["name"]))


class QFormerDecoder:
    """Rows that are written by reading them again from their beginning each time."""

    def __init__(self, module: Blip2, image_NSC: Tensor, begun: Sequence[Sequence[int]], most: int) -> None:
        longest = max(len(row) for row in begun)
        if longest >= most:
            raise TextTooLong(f"a beginning of {longest} tokens leaves no room to go on in {most}: shorten it")
        self._module, self._image = module, image_NSC
        self._rows = [list(row) for row in begun]

    def next_logits(self, tokens_N: Tensor | None) -> Tensor:
        """Logits [N, V] of each row's next token; what begins a text is never written."""
        if tokens_N is not None:
            for row, token in zip(self._rows, tokens_N.tolist(), strict=True):
                row.append(token)
        tokens_NT, lengths_N = pad_tokens(self._rows, 0)
        device = self._image.device
        states_NTD = self._module.written(self._image, tokens_NT.to(device))
        last_ND = states_NTD[torch.arange(len(self._rows), device=device), lengths_N.to(device) - 1]
        logits_NV = self._module.logits(last_ND)
        logits_NV[:, self._module.begin] = -torch.inf
        return logits_NV

    def select(self, rows_M: Tensor) -> None:
        """Keeps some rows, in this order."""
        self._image = self._image[rows_M]
        self._rows = [list(self._rows[row]) for row in rows_M.tolist()]


def tiny_tasks(samples: Sequence[Sample]) -> dict[str, Blip2Task]:
    """The first stage at its smallest, on a random tower; a tokenizer fitted to the samples."""
    tokenizer = Tokenizer.fit([text for sample in samples for text in sample.texts], 300)
    image = ImagePreprocessing(32, mean=(0.5,) * 3, std=(0.5,) * 3, views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(128)), tokenizer)
    sizes = QFormerConfig(4, 64, 2, 2, 128, 32, 2, tokenizer.vocab_size + 1, 128)
    tower = PatchFeatures(tiny_vision_backbone(32, 32), False, image.mean, image.std)
    return {"first_stage": Blip2Task(Config(sizes, 32, layer=-1, special=1), processor, tower)}
