"""Latency and throughput of a comparison: every technique of every case."""

from isotune.present.figures.style import axis, dots, numbered, whiskers
from isotune.present.section import Figure, Json
from isotune.present.sections import case_text, compare_section
from isotune.results import Compared, Contender


def compare_figure(result: Compared) -> Figure:
    """Throughput per GPU over latency; a colour per case, its serial pass the large mark."""
    cases: dict[str, list[Contender]] = {}
    for one in result.contenders:
        cases.setdefault(case_text(one), []).append(one)
    data: list[Json] = []
    for place, (name, members) in enumerate(cases.items()):
        ends = [(one.latency_interval_s, one.latency_s) for one in members]
        marker = numbered(place) | {"size": [13 if one.serial else 8 for one in members]}
        data.append(
            dots(
                name,
                [one.latency_s * 1e3 for one in members],
                [one.tokens_per_s_per_gpu for one in members],
                f"{name}<br>%{{customdata}}: %{{x:.4~g}} ms, %{{y:.4~g}} tokens/s per GPU",
                marker,
                customdata=[one.technique for one in members],
                error_x=whiskers(
                    ((high - latency) * 1e3 for (_, high), latency in ends),
                    ((latency - low) * 1e3 for (low, _), latency in ends),
                    str(marker["color"]),
                ),
            )
        )
    return Figure.single(
        "Latency and throughput of every technique",
        data,
        {"xaxis": axis("latency (ms)", type="log"), "yaxis": axis("tokens/s per GPU")},
        caption="A colour per machine, engine and layout; the large mark is its serial pass, and "
        "whiskers are 80 % intervals of the latency.",
        table=compare_section(result).tables[-1],
        height=460,
    )
