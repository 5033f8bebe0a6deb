"""Numbers as a report says them: three digits that mean something, with their unit."""

from __future__ import annotations

import math


def format_number(value: float) -> str:
    """Three significant digits, thousands apart: ``0.0123``, ``12.3``, ``12,300``."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_ms(value: float) -> str:
    """A latency in ms: ``0.35 ms``, ``35 ms``, ``3.5 s``."""
    if not math.isfinite(value):
        return "–"
    return (
        f"{format_number(value / 1e3)} s" if abs(value) >= 999.5 else f"{format_number(value)} ms"
    )


def format_share(value: float) -> str:
    """A share from 0 to 1: ``42.1 %``, ``99.95 %``; never 100 % where one call is missing."""
    if not math.isfinite(value):
        return "–"
    percent = value * 100
    for digits in range(2 if percent > 99 else 1, 6):
        text = f"{percent:.{digits}f}"
        if float(text) not in (0, 100) or value in (0, 1):
            break
    return f"{text.rstrip('0').rstrip('.')} %"


def format_seconds(value: float) -> str:
    """How long: ``0.5 s``, ``90 s``, ``12 min``, ``3 h 20 min``."""
    if not math.isfinite(value):
        return "–"
    if value < 120:
        return f"{format_number(value)} s"
    minutes = round(value / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def format_clock(value: float, whole_s: float) -> str:
    """A moment of a run that takes so long: ``20 s``, ``1:20``, ``1:05:00``."""
    seconds = round(value)
    if whole_s <= 120:
        return f"{seconds} s" if value == seconds else f"{value:g} s"
    hours, rest = divmod(seconds, 3600)
    if whole_s < 3600:
        return f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}" + (f":{rest % 60:02d}" if rest % 60 else "")
