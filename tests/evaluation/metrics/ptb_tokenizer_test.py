"""Tokens against those of the Java tool: what it gave for these lines, and the tool itself where it is installed."""

import shutil
from importlib.util import find_spec

import pytest

from diptych.evaluation.metrics.ptb_tokenizer import ptb_tokens

# What PTBTokenizer of CoreNLP 3.4.1 with -preserveLines -lowerCase and the server's list of punctuation gives.
BY_JAVA = {
    "A man's dog doesn't bite, can't run; won't stop! \"Really?\" he said.": (
        "a man 's dog does n't bite ca n't run wo n't stop really he said"
    ),
    "I'm gonna wanna gotta lemme gimme": "i 'm gon na wan na got ta lem me gim me",
    "cannot 'tis 'twas": "can not 't is 't was",
    "U.S. flag in Washington D.C. near Mr. Smith's house": "u.s. flag in washington d.c. near mr. smith 's house",
    "a U.S.-led team, US$5 -- told 'em---- wait....": "a u.s.-led team us$ 5 told 'em wait",
    "$5.00 or 50% of 1,000": "$ 5.00 or 50 % of 1,000",
    "items at 3:30 p.m. on 12/25/2010": "items at 3:30 p.m. on 12/25/2010",
    "A black-and-white t-shirt - two dogs -- running ... fast…": "a black-and-white t-shirt two dogs running fast",
    "(a red ball) [blue] and/or x*y": "-lrb- a red ball -rrb- -lsb- blue -rsb- and/or x * y",
    "colour grey centre theatre": "colour grey centre theatre",
    "it\u2019s the dogs\u2019 \u201cquoted\u201d \u2013 dash": "it 's the dogs quoted dash",
    "rock 'n' roll o'clock y'all ma'am '90s 1990's": "rock 'n' roll o'clock y' all ma'am '90s 1990 's",
    "at&t AT&T &amp; 1/2 cup ½": "at & t at&t & 1/2 cup 1/2",
    "5-year-old boy; 10ft pole 5'10\" tall 6ft. 2nd": "5-year-old boy 10ft pole 5 10 tall 6ft 2nd",
    "St. Bernard dog. No. 5 jersey, he is no. 1; he said no.": "st. bernard dog no. 5 jersey he is no. 1 he said no",
    "café ñandú 日本 €20 £5 ¢": "café ñandú 日本 $ 20 # 5 cents",
    "wow!! what?! w/o leash, ball w/ #24": "wow !! what ?! w/o leash ball w / # 24",
    'the letter " P. " and U. Miami': "the letter p. and u. miami",
    "8.5x11 paper from 10:30am": "8.5 x11 paper from 10:30 am",
    "_under_score_ a=b": "_ under_score _ a = b",
    "   ": "",
}


@pytest.mark.parametrize("text", BY_JAVA)
def test_tokens_are_those_that_the_java_tool_gave(text: str) -> None:
    assert ptb_tokens(text) == BY_JAVA[text].split()


@pytest.mark.skipif(not shutil.which("java") or not find_spec("pycocoevalcap"), reason="needs Java and pycocoevalcap")
def test_the_tool_itself_agrees() -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    lines = [text for text in BY_JAVA if text.strip()]
    found = PTBTokenizer().tokenize({index: [{"caption": text}] for index, text in enumerate(lines)})
    assert [found[index][0].split() for index in range(len(lines))] == [ptb_tokens(text) for text in lines]
