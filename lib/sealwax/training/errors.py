"""What saving and loading by step can raise, beside the errors of any save and load."""

from sealwax.errors import StepAlreadyExistsError as StepAlreadyExistsError
from sealwax.errors import StepNotFoundError as StepNotFoundError
