"""The ratios and the table that come of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.throughput.measures import ON_RAY, Measure
from benchmarks.throughput.race import Row

HEAD = ("measure", "contender", "s a step, median [least, most]", "rate", "ours is faster by", "of the matrix peak",
        "peak memory", "parts of a step, s")  # fmt: skip


def ratio_names(measure: Measure) -> list[str]:
    """Those a measure always has."""
    return [name for name in (measure.ratio, measure.best_ratio) if name]


def ratios_of(measure: Measure, rows: Sequence[Row]) -> dict[str, float | None]:
    """Above 1 ours is faster; None where a side has no figure."""
    found = {measure.ratio: ratio_of(rows, ("ours",), ("peer",))}
    if measure.best_ratio:
        found[measure.best_ratio] = ratio_of(rows, ("ours", "ours too"), ("peer", "peer too"))
    actors = [row for row in rows if row.contender == ON_RAY]
    if actors and actors[0].median_s:
        inline = next(row.median_s for row in rows if row.side == "ours")
        found[f"{measure.name}_ray_vs_inline"] = inline / actors[0].median_s if inline else None
    return found


def ratio_of(rows: Sequence[Row], ours: Sequence[str], peers: Sequence[str]) -> float | None:
    """Of the best median of the peers to that of ours."""
    mine, theirs = (
        min((row.median_s for row in rows if row.side in sides and row.median_s is not None), default=None)
        for sides in (ours, peers)
    )
    return theirs / mine if mine and theirs else None


def as_table(rows: Sequence[Row]) -> str:
    """Markdown; each of the peers' rows says how much faster our default is, at the same work."""
    return _markdown(HEAD, [_cells(row, rows) for row in rows])


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    if row.median_s is None or row.rate is None:
        return [row.measure, row.contender, f"failed: {(row.failed or '')[:160]}", "", "", "", "", ""]
    ours = next((r.median_s for r in rows if r.measure == row.measure and r.side == "ours"), None)
    faster = f"{row.median_s / ours:.2f}" if ours and row.side.startswith("peer") else ""
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in row.shares.items())
    return [
        row.measure,
        row.contender,
        f"{row.median_s:.2f} [{min(row.seconds):.2f}, {max(row.seconds):.2f}]",
        f"{row.rate:,.4g} {row.unit}",
        faster,
        "" if row.fraction_of_peak is None else f"{row.fraction_of_peak:.2f}",
        _memory(row),
        parts,
    ]


def _memory(row: Row) -> str:
    if row.peak_bytes is None:
        return ""
    extra = "" if row.extra_bytes is None else f", {row.extra_bytes / 1e9:.2f} of it for this"
    return f"{row.peak_bytes / 1e9:.1f} GB{extra}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
