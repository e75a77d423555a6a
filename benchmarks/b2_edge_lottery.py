"""B2: a CDN with different edges: each new connection is randomly fast or slow, with fixed seeds.

python -m benchmarks.b2_edge_lottery
"""

from benchmarks.contenders import ARIA2C, OURS_RUNNING, Contender, contenders
from benchmarks.line import Line
from benchmarks.origin import Origin
from benchmarks.processes import Usage
from benchmarks.report import USAGE_HEAD, Bar, Findings, ratio, usage_rows, wall
from benchmarks.scenario import Options, measure_in_turn, measure_once, run_alone

_FAST_MB_PER_SECOND, _SLOW_MB_PER_SECOND, _FAST_SHARE = 69.0, 8.7, 0.3
_SEEDS = 10


def measure(options: Options) -> Findings:
    """2 GiB, 30 % of the connections fast, both with at most 16 connections."""
    seeds = 2 if options.is_quick else _SEEDS
    with (
        options.work_folder() as folder,
        Origin(folder, [options.mib(2048, 128)]) as origin,
        Line(origin.nginx.port, fast=_FAST_MB_PER_SECOND, slow=_SLOW_MB_PER_SECOND, fast_share=_FAST_SHARE) as line,
    ):
        origin.redirect_to(line.port)

        def with_seed(contender: Contender, seed: int) -> Usage:
            line.draw_from(seed)
            return measure_once(contender, origin, folder)

        usages = measure_in_turn(contenders(OURS_RUNNING, ARIA2C), seeds, with_seed)
    title = (
        f"{origin.size_bytes / 2**30:.2f} GiB, edge lottery: {_FAST_SHARE:.0%} of connections "
        f"{_FAST_MB_PER_SECOND:.0f} MB/s, the others {_SLOW_MB_PER_SECOND} MB/s"
    )
    findings = Findings("B2", title, USAGE_HEAD, usage_rows(usages))
    ratios = [ratio(o.wall_s, a.wall_s) for o, a in zip(usages[OURS_RUNNING], usages[ARIA2C], strict=True)]
    findings.bars = [
        Bar("wall / aria2c -x16 -s16, medians", ratio(wall(usages[OURS_RUNNING]), wall(usages[ARIA2C])), 0.9),
        Bar("the same, worst seed", max(ratios), 1.5),
    ]
    per_seed = ", ".join(f"{value:.2f}" for value in ratios)
    findings.notes = [
        f"Ratio per seed: {per_seed}.",
        f"The tiny model that starts {OURS_RUNNING} uses the first draws of each seed.",
    ]
    return findings


if __name__ == "__main__":
    run_alone(measure)
