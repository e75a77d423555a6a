"""C: a sharded model over a long line: 80 ms round-trip time to the hub and to the CDN.

python -m benchmarks.c_round_trip
"""

from benchmarks.contenders import OURS, OURS_RUNNING, VERIFIED_PEERS, contenders, missing
from benchmarks.line import Line
from benchmarks.origin import Origin
from benchmarks.report import USAGE_HEAD, Bar, Findings, ratio, usage_rows, wall
from benchmarks.scenario import Options, measure_in_turn, measure_once, run_alone

_ROUND_TRIP_S = 0.08
_SHARDS = 12


def measure(options: Options) -> Findings:
    """12 files of 64 MiB, 80 ms round trip."""
    shard_bytes = options.mib(64, 4)
    with (
        options.work_folder() as folder,
        Origin(folder, [shard_bytes] * _SHARDS) as origin,
        Line(origin.nginx.port, round_trip_s=_ROUND_TRIP_S) as line,
        Line(origin.hub_port, round_trip_s=_ROUND_TRIP_S) as hub_line,
    ):
        origin.redirect_to(line.port)
        usages = measure_in_turn(
            contenders(OURS, OURS_RUNNING, *VERIFIED_PEERS),
            options.rounds,
            lambda contender, _: measure_once(contender, origin, folder, hub_line.port),
        )
    title = f"{_ROUND_TRIP_S * 1000:.0f} ms round trip, {_SHARDS} files of {shard_bytes / 2**20:.0f} MiB"
    findings = Findings("C", title, USAGE_HEAD, usage_rows(usages))
    best = min(wall(usages[name]) for name in VERIFIED_PEERS if name in usages)
    findings.bars = [
        Bar(f"wall of {name} / best verified peer", ratio(wall(usages[name]), best), most)
        for name, most in ((OURS_RUNNING, 0.9), (OURS, None))
    ]
    findings.notes = [
        f"`{OURS}` starts two processes and imports the Hub's client, once in a kernel's life, so it has no limit.",
        "Both lines are a proxy that delays bytes and starts each connection slowly, up to 4 MiB in transit.",
        "curl downloads all files at once (`--parallel`), aria2c `-x16 -s16` each, huggingface_hub its `snapshot_download`, "
        "hf_transfer one file after another.",
        *(f"{name} is not installed and was left out." for name in missing(*VERIFIED_PEERS)),
    ]
    return findings


if __name__ == "__main__":
    run_alone(measure)
