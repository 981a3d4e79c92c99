"""Protocol buffers as text, the form in which Orbax keeps them.

``google.protobuf`` is imported where a message is met, which cannot be before its user did so.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from returns.result import safe

from sealwax.errors import CorruptionError, InvalidCheckpointableError, SealwaxError
from sealwax.layouts.orbax import DAMAGED

FILE = "proto.pbtxt"


def is_message(value: object) -> bool:
    """Whether a value is a message."""
    message = _message_class()
    return message is not None and isinstance(value, message)


def is_abstract_message(value: object) -> bool:
    """Whether a value can say which message to load: a class of messages, or one of them."""
    message = _message_class()
    return message is not None and (
        isinstance(value, message) or (isinstance(value, type) and issubclass(value, message))
    )


@safe(exceptions=(SealwaxError,))
def encode(value: object, name: str = "value") -> bytes:
    """The text of a message.

    Args:
      value: The message.
      name: What to call it in an error.

    Returns:
      The text; an ``InvalidCheckpointableError`` where the value is no message, or one that its
      text does not give back.
    """
    if not is_message(value):
        raise InvalidCheckpointableError(
            f"Checkpointable {name!r} is not a protocol buffer",
            expected="a message",
            found=f"a value of type {type(value).__qualname__}",
            hint="Register another handler for this name.",
        )
    from google.protobuf import text_format as _text_format

    text_format, message = cast("Any", _text_format), cast("Any", value)
    text: str = text_format.MessageToString(message)
    again = text_format.Parse(text, type(message)())
    if again != message and _wire(again) != _wire(message):
        raise InvalidCheckpointableError(
            f"Checkpointable {name!r} is a message of which the text form would lose something",
            expected="no fields beyond those that the class knows",
            found=f"{type(message).__qualname__} with unknown fields",
            hint="Call DiscardUnknownFields() on it, or save `SerializeToString()` in a tree.",
        )
    return text.encode()


@safe(exceptions=(SealwaxError,))
def decode(data: bytes, abstract: object, name: str = "value", *, path: str | None = None) -> Any:
    """The message that ``encode`` was given.

    Args:
      data: Its text.
      abstract: The message's class, or a message of it, which stays as it is.
      name: What to call it in an error.
      path: Path of the file, for errors.

    Returns:
      The message; an ``InvalidCheckpointableError`` where ``abstract`` is not what is needed, a
      ``CorruptionError`` where the text is none of such a message.
    """
    problem = abstract_problem(abstract, name, path)
    if problem is not None:
        raise problem
    from google.protobuf import text_format as _text_format

    text_format: Any = _text_format
    kind: Any = abstract if isinstance(abstract, type) else type(abstract)
    try:
        return text_format.Parse(data.decode(), kind())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise CorruptionError(
            f"The text of checkpointable {name!r} is none of a {kind.__qualname__}: {error}",
            path=path,
            hint=f"Pass the class with which it was saved. Otherwise: {DAMAGED}",
        ) from error


def abstract_problem(
    abstract: object, name: str, path: str | None = None
) -> InvalidCheckpointableError | None:
    """The error for an abstract form that does not say which message to load."""
    if is_abstract_message(abstract):
        return None
    return InvalidCheckpointableError(
        f"Checkpointable {name!r} is a protocol buffer, and its file does not say of which class",
        path=path,
        expected="the class of the message as its abstract form",
        found="none" if abstract is None else repr(abstract)[:80],
        hint=f"Pass it: load_checkpointables(path, {{{name!r}: MyMessage}}). Leave the name "
        "out of that dict to load the others alone.",
    )


def _wire(message: Any) -> bytes:
    return message.SerializePartialToString(deterministic=True)


def _message_class() -> Any:
    module = sys.modules.get("google.protobuf.message")
    return None if module is None else module.Message
