"""What is counted while serving, for Prometheus at `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Figures:
    """Requests by endpoint and status, seconds they took, those under way, and tokens by model."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        where: Any = {"registry": self._registry}
        self._requests = Counter("rlhf_requests", "Requests answered", ["endpoint", "status"], **where)
        self._seconds = Histogram(
            "rlhf_request_seconds", "From request to end", ["endpoint"], buckets=_SECONDS, **where
        )
        self._read = Counter("rlhf_prompt_tokens", "Tokens of prompts", ["model"], **where)
        self._written = Counter("rlhf_completion_tokens", "Tokens written", ["model"], **where)
        self._being_written = Gauge("rlhf_answers_being_written", "In a replica", ["model"], **where)
        self.under_way = Gauge("rlhf_requests_under_way", "Requests being answered", **where)

    def being_written(self, model: str, number: int) -> None:
        """Answers a replica is writing, as it says itself."""
        self._being_written.labels(model).set(number)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def written(self, model: str, told: Mapping[str, Any]) -> None:
        """A piece of an answer."""
        self._read.labels(model).inc(told.get("prompt_tokens", 0))
        self._written.labels(model).inc(told.get("tokens", 0))

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return generate_latest(self._registry)
