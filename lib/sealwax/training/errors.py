"""What saving and loading by step can raise, beside the errors of any save and load."""

from sealwax.errors import StepAlreadyExistsError, StepNotFoundError

__all__ = [
    "StepAlreadyExistsError",
    "StepNotFoundError",
]


def __dir__() -> list[str]:
    return __all__
