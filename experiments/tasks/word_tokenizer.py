"""A tokenizer of whole words, for policies whose task is written in a few of them."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rewards.template import AnswerTemplate

_SPACE = "\u2581"


def word_tokenizer(template: AnswerTemplate, words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Tokenizer in which each word, and each tag and confidence level of the template, is one token.

    Words stand one space apart and beside tags without one; such a text is decoded as it was written.
    """
    tokens = ["<pad>", "<eos>", "<unk>", *(f"{_SPACE}{word}" for word in words)]
    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    core.decoder = decoders.Sequence(
        [decoders.Metaspace(replacement=_SPACE), decoders.Fuse(), decoders.Replace(Regex("(?<=>) "), "")]
    )
    # Not special: they must survive decoding, which is where the parser reads them.
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in template.tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
