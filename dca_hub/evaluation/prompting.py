"""Texts as the token ids a model was trained on: behind what its tokenizer puts first, or in its chat format."""

from transformers import PreTrainedTokenizerBase

from dca_hub.control_tokens import encode
from dca_hub.errors import DcaHubError, Fix

_PLAIN = Fix("use {}", "style", "plain")
_MARK = "\ue0d0"  # a private character: stands for the long text while a chat format is rendered


def has_chat_format(tokenizer: PreTrainedTokenizerBase) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


def require_chat_format(tokenizer: PreTrainedTokenizerBase) -> None:
    if not has_chat_format(tokenizer):
        raise DcaHubError("This model has no chat format: ask it without.")


def in_chat_format(tokenizer: PreTrainedTokenizerBase, before: str, after: str) -> tuple[list[int], list[int]]:
    """The token ids around a long text that stands between `before` and `after` in one message of a user.

    Raises DcaHubError for a model without a chat format, or whose format refuses one message of a user.
    """
    require_chat_format(tokenizer)
    message = {"role": "user", "content": before + _MARK + after}
    try:
        text = tokenizer.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except Exception as error:  # templates raise what they like
        raise DcaHubError(f"The chat format refuses a user's message ({error})", _PLAIN) from None
    head, mark, tail = text.partition(_MARK)
    if not mark:
        raise DcaHubError("The chat format leaves a user's message out", _PLAIN)
    return encode(tokenizer, head), encode(tokenizer, tail)
