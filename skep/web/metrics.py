"""Counters and gauges in the Prometheus text format (version 0.0.4).

Labels come from code (routes, statuses), never from what clients choose, so the number of series is bounded.
"""

from __future__ import annotations

from collections.abc import Callable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counter:
    """A number for each combination of labels, only ever added to."""

    def __init__(self, name: str, doc: str, *labels: str) -> None:
        self.name, self.doc, self.labels = name, doc, labels
        self.values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + by

    def lines(self) -> list[str]:
        return [
            f"{self.name}{_labels(self.labels, values)} {number:.10g}" for values, number in sorted(self.values.items())
        ]


class Registry:
    """All metrics of a process."""

    def __init__(self) -> None:
        self._counters: list[Counter] = []
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def counter(self, name: str, doc: str, *labels: str) -> Counter:
        made = Counter(name, doc, *labels)
        self._counters.append(made)
        return made

    def gauge(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """`read` is asked when the page is."""
        self._gauges[name] = (doc, read)

    def render(self) -> str:
        lines: list[str] = []
        for counter in self._counters:
            lines += [f"# HELP {counter.name} {counter.doc}", f"# TYPE {counter.name} counter", *counter.lines()]
        for name, (doc, read) in self._gauges.items():
            lines += [f"# HELP {name} {doc}", f"# TYPE {name} gauge", f"{name} {read():.10g}"]
        return "\n".join(lines) + "\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    if not names:
        return ""
    return "{" + ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True)) + "}"
