"""Captions into tokens as the COCO server does it: Penn Treebank words in lower case, without punctuation.

The server runs the Java tool PTBTokenizer of Stanford CoreNLP 3.4.1 and drops a list of punctuation marks. This is a
tokenizer of our own with the same outcome on captions; docs/captioning.md says on how many, and where the two differ.
Two habits of the server are kept, because numbers are compared with its numbers: brackets stay as words ("-lrb-"), for
its list knows them in capitals only; and so do signs that are not in the list ("&", "#", "/", "*", "=").
"""

from __future__ import annotations

import re

_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
_SAME = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2026": "...", "\u00a0": " "})
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = _BRACKETS | {
    '"': "''", "\u00a3": "#", "\u20ac": "$", "\u00a2": "cents", "\u2013": "--", "\u2014": "--",
    "\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4",
    "&amp;": "&",
}  # fmt: skip
_TWO_WORDS = {
    "cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"), "lemme": ("lem", "me"),
    "gimme": ("gim", "me"), "wanna": ("wan", "na"), "'tis": ("'t", "is"), "'twas": ("'t", "was"),
    "y'all": ("y'", "all"),
}  # fmt: skip
_ABBREVIATED = (
    r"(?:mr|mrs|ms|dr|st|jr|sr|mt|ft|lt|col|gen|capt|sgt|prof|rev|hon|gov|sen|rep|pres|maj|messrs|vs|etc|inc|corp|co|"
    r"ltd|bros|ave|blvd|rd|dept|univ|assn|esq|ph\.d|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec)"
)
_WORD = r"[^\W_]+(?:_+[^\W_]+)*"
_TOKEN = re.compile(
    rf"""
    https?://[^\s"<>|()]*[^\s"<>|.!?(){{}},-] | www\.[^\s"<>|()]*[^\s"<>|.!?(){{}},-]   # addresses
  | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
  | </?[A-Za-z!?][^<>\n]*>                                                              # tags
  | (?:cannot|gonna|gotta|lemme|gimme|wanna|y'all|'tis|'twas)\b                         # two words in one
  | n't\b | '(?:s|m|d|re|ve|ll)\b                                                       # ends of words
  | '\d\ds\b | 'n' | 'em\b                                                              # '90s, rock 'n' roll
  | (?:[A-Za-z]\.){{2,}}(?:-{_WORD})* | US\$                                            # U.S., U.S.-led
  | \b[A-Z]\.(?!\s*$) | (?-i:[A-Z]+(?:&[A-Z]+)+) | &amp;                                # J. AT&T
  | no\.(?=\s*\d) | \b{_ABBREVIATED}\.                                                  # No. 5, Mr.
  | [+-]?\d*[.,:/]\d+(?:[.,:/]\d+)* | [+-]?\d+(?![\w-])                                 # 1,000 3:30 .5 1/2
  | (?:o'clock|ma'am|d'ye)\b
  | {_WORD}(?=n't\b)                                                                    # do|n't
  | {_WORD}(?:[-/.]{_WORD})*                                                            # words and their compounds
  | \#[^\W\d_]\w* | @[^\W\d_]\w*
  | \.\.\.+ | --+ | [?!]{{2,}} | `` | ''                                                # marks of several signs
  | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def ptb_tokens(text: str) -> list[str]:
    """The words of a caption."""
    found: list[str] = []
    for token in _TOKEN.findall(text.translate(_SAME)):
        word = token.lower()
        found += _TWO_WORDS.get(word) or (_SIGNS.get(word, word),)
    return [token for token in found if token not in _PUNCTUATION and token.strip("-") and token.strip(".")]
