"""What a oneshot costs where its program does not say: an estimate, by the list of prices of the extra `[prices]`."""

from __future__ import annotations

from logist.models.usage import Usage


def with_price(usage: Usage, model: str | None, provider: str | None = None) -> Usage:
    """`usage` with an estimated cost where it has none; as it is when the model or its price is not known.

    Without a `provider` it is the one that `model` names, as PROVIDER/MODEL, else the model's maker.
    """
    if usage.cost is not None or model is None or usage.input_tokens is None or usage.output_tokens is None:
        return usage
    try:
        import genai_prices
    except ImportError:
        return usage
    used = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=min(usage.cached_tokens or 0, usage.input_tokens),
    )
    if provider is None:
        named, _, model = model.rpartition("/")
        provider = named.rpartition("/")[2] or None
    try:
        price = genai_prices.calc_price(used, model_ref=model, provider_id=provider)
    except (LookupError, ValueError):
        return usage
    return usage.model_copy(update={"cost": round(float(price.total_price), 9), "cost_is": "estimated"})
