"""Sample requests."""

from __future__ import annotations

from loadtests import samples


def test_texts_are_short_and_long() -> None:
    """A load of one length would never make a padded batch."""
    words = [len(text.split()) for text in samples.TEXTS]
    assert min(words) == 1
    assert max(words) > 30


def test_items_are_what_forecast_takes() -> None:
    """At least 28 days of sales, and a lead time it forecasts for."""
    for item in samples.ITEMS:
        assert len(item.daily_sales) >= 28
        assert min(item.daily_sales) >= 0
        assert 1 <= item.lead_time_days <= 14
        assert 0.5 <= item.service_level <= 0.999
