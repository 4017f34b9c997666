"""Documents of texts and pictures as rows of tokens of one vocabulary.

    <start> words <begin> codes <end of picture> words ... <end>

T tokens of a row, K codes there are, P codes of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diptych.decoding.modal_grammar import ModalGrammar, PictureTokens


@dataclass(frozen=True)
class Places:
    """Where codes and what stands around them lie in a vocabulary that was made elsewhere, among its words.

    Attributes:
        first: the token of code 0; those of the others follow.
        begin, finish: before and after a picture's codes.
    """

    first: int
    begin: int
    finish: int


@dataclass(frozen=True)
class Layout:
    """Which token is what: words first, then codes, then what stands around them; or as `places` says.

    Attributes:
        words: ids of the text's tokenizer, control tokens included.
        codes: K.
        length: P.
        sentinels: tokens that stand for parts that are moved to the end (CM3Leon).
        places: of a vocabulary made elsewhere, which is the tokenizer's; it has no sentinels.
    """

    words: int
    codes: int
    length: int
    sentinels: int = 0
    places: Places | None = None

    @property
    def first(self) -> int:
        """The token of code 0."""
        return self.words if self.places is None else self.places.first

    @property
    def begin(self) -> int:
        """Stands before a picture's codes."""
        return self.words + self.codes if self.places is None else self.places.begin

    @property
    def finish(self) -> int:
        """Stands after them."""
        return self.begin + 1 if self.places is None else self.places.finish

    @property
    def end_of_span(self) -> int:
        """Stands after a part that was moved."""
        assert self.places is None, "a vocabulary made elsewhere has no sentinels"
        return self.begin + 2

    def sentinel(self, number: int) -> int:
        """The token in the place of part `number`."""
        assert 0 <= number < self.sentinels, "there are not so many sentinels"
        return self.end_of_span + 1 + number

    @property
    def size(self) -> int:
        """Of the vocabulary."""
        return self.end_of_span + 1 + self.sentinels if self.places is None else self.words

    @property
    def of_spans(self) -> tuple[int, ...]:
        """The tokens of moved parts."""
        return tuple(range(self.end_of_span, self.size)) if self.places is None else ()

    @property
    def no_words(self) -> tuple[int, ...]:
        """Every token that no text has."""
        return (*range(self.first, self.first + self.codes), self.begin, self.finish, *self.of_spans)

    def picture(self, codes: Sequence[int]) -> list[int]:
        """A picture's tokens, with what stands around them."""
        return [self.begin, *(self.first + code for code in codes), self.finish]

    def codes_in(self, tokens: Sequence[int]) -> list[int]:
        """The codes of a picture's tokens, without what stands around them."""
        return [token - self.first for token in tokens if self.is_code(token)]

    def is_code(self, token: int) -> bool:
        """Whether a token is one of a picture's codes."""
        return self.first <= token < self.first + self.codes

    def grammar(self, written: Sequence[Sequence[int]], forbidden: Sequence[int]) -> ModalGrammar:
        """Text and whole pictures in turn, after what each row has already.

        Args:
            forbidden: what may not come at all.
        """
        tokens = PictureTokens(self.begin, self.finish, (self.first, self.first + self.codes), self.length)
        return ModalGrammar(tokens, self.size, written, (*self.of_spans, *forbidden))
