"""What errors mean, in the words of programs and providers; numbers and words that mean nothing of the kind."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.agents.outcome import Outcome, outcome_of_message, outcome_of_refusal

#: As the programs print them: most are in the recordings, the others were told by their users.
SAID = [
    # A status, however it is given.
    ("402 Your credit balance is too low to access the API", Outcome.QUOTA),
    ("401 invalid x-api-key", Outcome.AUTH),
    ("[API Error: 401 invalid x-api-key]", Outcome.AUTH),
    ("[API Error: 404 model: no-such-model not found]", Outcome.MODEL_NOT_FOUND),
    ("provider.api_error: 402 Your balance is 0", Outcome.QUOTA),
    ("API Error: Request rejected (429) · slow down", Outcome.RATE_LIMITED),
    ("API Error: 500 something broke", Outcome.SERVER),
    ("API Error: 529 Overloaded", Outcome.SERVER),
    ("exceeded retry limit, last status: 429 Too Many Requests", Outcome.RATE_LIMITED),
    ("unexpected status 402 Payment Required: no, url: http://127.0.0.1:8000/v1", Outcome.QUOTA),
    ("unexpected status 401 Unauthorized: Missing bearer", Outcome.AUTH),
    ("Request failed with status code 503", Outcome.SERVER),
    ('[API Error: {"error":{"code":402,"message":"No.","status":"UNKNOWN"}}]', Outcome.QUOTA),
    ("Error code: 404 - {'error': {'message': 'no such thing'}}", Outcome.MODEL_NOT_FOUND),
    ("Authentication failed with provider at http://127.0.0.1:8000/s/e401/v1 (HTTP 401).", Outcome.AUTH),
    ("Got 502 Bad Gateway from upstream", Outcome.SERVER),
    ('{"type":"error","status_code":429,"error":{"type":"x"}}', Outcome.RATE_LIMITED),
    # What is spent, whatever the status.
    ("Credit balance is too low", Outcome.QUOTA),
    ('400 {"error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}', Outcome.QUOTA),
    ("429 You exceeded your current quota, please check your plan and billing details.", Outcome.QUOTA),
    ('Error code: 429 - {"error":{"code":"insufficient_quota"}}', Outcome.QUOTA),
    ("Quota exceeded. Check your plan and billing details.", Outcome.QUOTA),
    ("You've hit your usage limit. Upgrade to Pro to go on.", Outcome.QUOTA),
    ("You've hit your monthly spend limit.", Outcome.QUOTA),
    ("This organization's billing is not active", Outcome.QUOTA),
    ("Weekly limit reached", Outcome.QUOTA),
    # Windows that end, and say when.
    ("Claude AI usage limit reached|1735689600", Outcome.RATE_LIMITED),
    ("5-hour limit reached ∙ resets 3pm", Outcome.RATE_LIMITED),
    ("5-hour limit reached", Outcome.RATE_LIMITED),
    ("Weekly limit reached ∙ resets Oct 9 at 5pm", Outcome.RATE_LIMITED),
    ("You've hit your limit · resets 2:10pm (Europe/Moscow)", Outcome.RATE_LIMITED),
    ("You've hit your usage limit. Upgrade to Pro or try again in 2 days 17 hours.", Outcome.RATE_LIMITED),
    ("You exceeded your current quota. Please retry in 37.5s.", Outcome.RATE_LIMITED),
    # Words alone.
    ("RateLimitError: OpenAIException - Rate limit exceeded, retry later", Outcome.RATE_LIMITED),
    ("overloaded_error", Outcome.RATE_LIMITED),
    ('{"status": "RESOURCE_EXHAUSTED"}', Outcome.RATE_LIMITED),
    ("Not logged in · Please run /login", Outcome.AUTH),
    ("Missing API key for OpenAI-compatible auth.", Outcome.AUTH),
    ("400 API key not valid. Please pass a valid API key.", Outcome.AUTH),
    ("OpenAIException - invalid x-api-key", Outcome.AUTH),
    ("model: no-such-model not found", Outcome.MODEL_NOT_FOUND),
    ("The model `gpt-9` does not exist or you do not have access to it.", Outcome.MODEL_NOT_FOUND),
    ("Model stream ended without a finish reason.", Outcome.SERVER),
    ("stream disconnected before completion", Outcome.SERVER),
    ("Connection error.", Outcome.SERVER),
    ("connect ECONNREFUSED 127.0.0.1:443", Outcome.SERVER),
    ("InternalServerError: OpenAIException", Outcome.SERVER),
    ("Request timed out.", Outcome.SERVER),
    ("LLM Provider NOT provided. You passed model=nonsense/none", Outcome.MODEL_NOT_FOUND),
    ("ValueError: No default model set. Please run the setup to set one.", Outcome.MODEL_NOT_FOUND),
    # More than the model reads at once.
    ("This model's maximum context length is 8192 tokens. Your messages resulted in 9000.", Outcome.LIMIT),
    ("Your input exceeds the context window of this model.", Outcome.LIMIT),
    ('400 {"error":{"message":"no","code":"context_length_exceeded"}}', Outcome.LIMIT),
    ("400 prompt is too long: 210000 tokens > 200000 maximum", Outcome.LIMIT),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", Outcome.LIMIT),
    # A provider's own services may be down, and may be called like anything.
    ("The billing service is unavailable (503)", Outcome.SERVER),
    ("503 Service Unavailable: billing error, usage limit service is down", Outcome.SERVER),
    ("Cannot reach the payment service: connection refused", Outcome.SERVER),
    # No status, and no word that means anything.
    ("SyntaxError in main.py, line 404", None),
    ("the tool ended with exit 401", None),
    ("exit status 401", None),
    ("the build printed 429 warnings", None),
    ("took 500 ms", None),
    ("see http://127.0.0.1:500/404.html", None),
    ("error: cannot read file 402.txt", None),
    ("error: unknown option '--stream'", None),
    ("error: unknown option '--connection'", None),
    ("error: unknown option '--context-window'", None),
    ("the payment form has a typo", None),
    ("wrote the billing page", None),
    ("generate limits.md", None),
    ("", None),
]


@pytest.mark.parametrize(("said", "outcome"), SAID, ids=[said[:50] for said, _ in SAID])
def test_an_error_means_what_it_says(said: str, outcome: Outcome | None) -> None:
    assert outcome_of_message(said) is outcome


@pytest.mark.parametrize(
    ("status", "said", "outcome"),
    [
        (401, "404 model not found", Outcome.AUTH),
        (429, "slow down", Outcome.RATE_LIMITED),
        (429, "You exceeded your current quota", Outcome.QUOTA),
        (402, "You've hit your limit · resets 3pm", Outcome.QUOTA),
        (403, "rate limit exceeded", Outcome.RATE_LIMITED),
        (403, "no", Outcome.AUTH),
        (400, "no", Outcome.CONFIG),
        (400, "Incorrect API key", Outcome.AUTH),
        (408, "no", Outcome.SERVER),
        (503, "your credit balance is too low to tell", Outcome.SERVER),
        (None, "no", None),
    ],
)
def test_a_programs_own_status_goes_before_its_words(status: int | None, said: str, outcome: Outcome | None) -> None:
    assert outcome_of_refusal(status, said) is outcome


@given(status=st.integers(500, 599), said=st.sampled_from([said for said, _ in SAID]))
def test_a_provider_that_failed_is_asked_again_whatever_it_says(status: int, said: str) -> None:
    assert outcome_of_refusal(status, said) is Outcome.SERVER


@pytest.mark.parametrize("said", [said for said, outcome in SAID if outcome is not None])
def test_an_error_means_something_as_a_part_of_json_too(said: str) -> None:
    told = {"error": {"message": said, "param": None}}
    assert outcome_of_message(json.dumps(told, ensure_ascii=False)) is not None
