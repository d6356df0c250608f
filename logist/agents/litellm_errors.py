"""What the errors of litellm mean, by which aider and mini ask their models: they go by name. Pure."""

from __future__ import annotations

from logist.agents.outcome import Outcome, outcome_of_refusal

#: The HTTP status that an error of that name stands for.
_STATUSES = {
    "AuthenticationError": 401,
    "PermissionDeniedError": 403,
    "NotFoundError": 404,
    "RateLimitError": 429,
    "BudgetExceededError": 402,
    "BadRequestError": 400,
    "UnsupportedParamsError": 400,
}


def outcome_of_litellm(name: str, said: str) -> Outcome:
    """What an error of that name means which `said` this; SERVER where neither tells.

    A spent account is a RateLimitError too, and a model that it does not know a BadRequestError: words count besides.
    """
    if name == "ContextWindowExceededError":
        return Outcome.LIMIT
    return outcome_of_refusal(_STATUSES.get(name), said) or Outcome.SERVER
