"""The results as JSON, a Markdown table a row, and a chart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.timing import Timing

__all__ = ["as_rows", "chart", "factor", "markdown", "speedup"]


def speedup(timings: list[Timing], baseline: str) -> dict[str, float]:
    """How many times faster than the baseline, by the least times: what the machine does when nothing disturbs it.

    A ceiling is other work and has no speed-up.
    """
    base = next((t.minimum for t in timings if t.peer == baseline), None)
    return {} if base is None else {t.peer: base / t.minimum for t in timings if not t.facts.get("ceiling")}


def as_rows(row: Any, timings: list[Timing]) -> list[dict[str, Any]]:
    """One flat record a peer, fastest first; where operations are counted, the share of the best ceiling too."""
    times = speedup(timings, row.baseline)
    rates = {t.peer: t.facts["flops"] / t.minimum / 1e3 for t in timings if "flops" in t.facts}
    ceiling = max((rates[t.peer] for t in timings if t.facts.get("ceiling")), default=None)
    records = []
    for t in sorted(timings, key=lambda t: t.minimum):
        record = {"row": row.name, "title": row.title, "unit": row.unit, "peer": t.peer,
                  "us_min": _short(t.minimum), "us_median": _short(t.median), "rounds": t.rounds,
                  "compile_s": _short(t.compile_s, 3), "times_baseline": _short(times.get(t.peer)),
                  "gflops": _short(rates.get(t.peer)), **t.facts}  # fmt: skip
        if ceiling and t.peer in rates:
            record["of_ceiling"] = _short(rates[t.peer] / ceiling, 3)
        records.append({key: value for key, value in record.items() if value is not None})
    return records


def _short(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


FACTS = {
    "gflops": "GF/s",
    "of_ceiling": "of the ceiling",
    "temporaries_mb": "temporaries, MB",
    "difference": "difference",
}


HOW_TO_READ = (
    "Peers take turns, in an order drawn anew in each round. Times are microseconds, of the quickest round and of the "
    "median one; speed-ups are ratios of quickest rounds. Compilation is apart. Every peer that trains first came to "
    "the parameters of NumPy in float64; the difference is how far from them, of a leaf's largest entry."
)


def markdown(machine: dict[str, Any], records: list[dict[str, Any]], notes: list[str]) -> str:
    """A heading and a table for each row of the benchmark, the machine first."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = (
        f"{machine['cpu']} ({', '.join(machine['flags'])}), {machine['threads']} threads of {machine['cores']} cores, "
        f"{machine['device']}; {versions}."
    )
    lines = ["# Benchmarks", "", where, "", HOW_TO_READ, ""]
    for name in dict.fromkeys(record["row"] for record in records):
        lines += _table([record for record in records if record["row"] == name])
    return "\n".join([*lines, *(f"- {note}" for note in notes)]).rstrip() + "\n"


def _table(records: list[dict[str, Any]]) -> list[str]:
    facts = [name for name in FACTS if any(name in record for record in records)]
    heads = ["peer", f"us a {records[0]['unit']}", "median", "speed-up", "compile s", *(FACTS[name] for name in facts)]
    lines = [f"## {records[0]['title']}", "", "| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for record in records:
        cells = [record["peer"], _number(record["us_min"]), _number(record["us_median"]),
                 factor(record),
                 f"{record['compile_s']:.2f}", *(_fact(name, record) for name in facts)]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def factor(record: Mapping[str, Any], width: int = 0) -> str:
    """The speed-up, nothing where there is none."""
    return f"{_number(record['times_baseline'])}x".rjust(width) if "times_baseline" in record else ""


def _number(value: float) -> str:
    """Three digits, never in powers of ten."""
    digits = 3 - len(str(int(abs(value)))) if abs(value) >= 1 else 3
    return f"{value:,.{max(digits, 0)}f}"


def _fact(name: str, record: dict[str, Any]) -> str:
    value = record.get(name)
    if value is None:
        return ""
    return f"{value:.0e}" if name == "difference" else _number(value)


def chart(path: Path, records: list[dict[str, Any]]) -> bool:
    """Bars of every row's times, logarithmic; False where matplotlib is missing."""
    from handprop.cli import plots

    names = list(dict.fromkeys(record["row"] for record in records))
    parts = [[record for record in records if record["row"] == name] for name in names]
    columns = _columns(parts)
    try:
        drawing = plots.figure(9.0 * len(columns), max(sum(map(_inches, column)) for column in columns))
    except ImportError:
        return False
    for place, column in zip(drawing.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True):
        axes = place.subplots(len(column), 1, squeeze=False, height_ratios=list(map(_inches, column)))[:, 0]
        for each, part in zip(axes, column, strict=True):
            _bars(each, part, plots)
    plots.save(drawing, path)
    return True


def _columns(parts: list[list[dict[str, Any]]]) -> list[list[list[dict[str, Any]]]]:
    """The rows in their order, in one column or in two of about the same height."""
    if len(parts) < 4:
        return [parts]
    heights = [_inches(part) for part in parts]
    first = min(range(1, len(parts)), key=lambda n: max(sum(heights[:n]), sum(heights[n:])))
    return [parts[:first], parts[first:]]


def _inches(part: list[dict[str, Any]]) -> float:
    return 0.9 + 0.2 * len(part)


def _bars(axes: Any, records: list[dict[str, Any]], plots: Any) -> None:
    times = [record["us_min"] for record in records]
    colours = [plots.ORANGE if "handprop" in record["peer"] else plots.GREY for record in records]
    axes.barh([record["peer"] for record in records], times, color=colours)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(times) / 2, max(times) * 4)
    axes.set_title(f"{records[0]['title']}: us a {records[0]['unit']}", fontsize=10, loc="left")
    axes.xaxis.set_minor_formatter("")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    for y, record in enumerate(records):
        axes.text(record["us_min"] * 1.1, y, _number(record["us_min"]), va="center", fontsize=7)
