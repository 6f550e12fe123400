"""Times as the API server writes them, and durations as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """RFC 3339 with whole seconds: 2026-01-02T03:04:05Z."""
    # Not strftime: it writes the year 1 as "1", which the API server refuses.
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse(text: str | None) -> datetime | None:
    """A time as the API server or a trainer writes it, in UTC; None where it is no time."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def seconds_until(moment: datetime, now: datetime) -> float:
    """Seconds from `now` to `moment`, at least 0."""
    return max(0.0, (moment - now).total_seconds())


def add(moment: datetime, seconds: float) -> datetime:
    """`moment` and so many seconds, as far as a calendar reaches."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def human(seconds: float) -> str:
    """A duration in its two largest units at most: 4s, 12m, 3h5m, 2d4h."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left}s"
    minutes, hours, days = left // 60, left // 3600, left // 86_400
    if minutes < 60:
        return f"{minutes}m"
    if days:
        rest = hours % 24
        return f"{days}d{rest}h" if rest else f"{days}d"
    rest = minutes % 60
    return f"{hours}h{rest}m" if rest else f"{hours}h"
