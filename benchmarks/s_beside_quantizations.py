"""S: six shards, with and without ten other quantizations of the model in the folder.

    python -m benchmarks.s_beside_quantizations

Each of the ten shares the tokenizer with the wanted model but no tensor's bytes: checking them must cost almost
nothing.
"""

import shutil
from statistics import median

from benchmarks.contenders import OURS_RUNNING, contenders
from benchmarks.r_reuse import authority, download, hub_of, write
from benchmarks.report import Bar, Findings
from benchmarks.scenario import Options, run_alone
from gglib_nb.demo.content import Content
from gglib_nb.demo.gguf_writer import Tensor, TensorType, Value, gguf_content
from gglib_nb.demo.llama import split_metadata

_LABEL = "Q8_0"
_SHARDS = 6
_OTHERS = 10
_TENSORS_OF_A_SHARD = 40
_ROWS, _COLUMNS = 896, 1024
_TOKENS = 128_000
_RUNS_OF_A_ROUND = 3  # half a second each: the median of a few is off by a tenth


def measure(options: Options) -> Findings:
    """Loopback, engine running."""
    others = _OTHERS if not options.is_quick else 2
    findings = Findings("S", f"{_SHARDS} shards of 40 MB", ("in the folder", "median s", "from to, s", "rounds"))
    (contender,) = contenders(OURS_RUNNING)
    names = [f"model-{_LABEL}-{number + 1:05}-of-{_SHARDS:05}.gguf" for number in range(_SHARDS)]
    shards = {name: _shard(number) for number, name in enumerate(names)}
    medians_s: list[float] = []
    with options.work_folder() as folder, authority() as certificates, hub_of(shards, _LABEL) as hub:
        donors = [folder / "donors" / f"model-other-{number}.gguf" for number in range(others)]
        for number, donor in enumerate(donors):
            write(_other(number), donor)
        for text, here in (("nothing else", []), (f"{others} other quantizations", donors)):
            runs_s = [
                download(contender, hub, _LABEL, names, here, folder / "download", certificates).wall_s
                for _ in range(options.rounds * _RUNS_OF_A_ROUND)
            ]
            medians_s.append(median(runs_s))
            span = f"{min(runs_s):.2f} to {max(runs_s):.2f}"
            findings.rows.append((text, f"{medians_s[-1]:.2f}", span, str(len(runs_s))))
        shutil.rmtree(folder / "donors")
    findings.bars = [Bar("wall with / without the others", medians_s[1] / medians_s[0], 1.1)]
    return findings


def _tokenizer() -> dict[str, Value]:
    return {"tokenizer.ggml.tokens": [f"token {number}" for number in range(_TOKENS)]}


def _shard(number: int) -> Content:
    metadata: dict[str, Value] = {"general.architecture": "llama", **(_tokenizer() if number == 0 else {})}
    metadata |= split_metadata(number, _SHARDS, _SHARDS * _TENSORS_OF_A_SHARD)
    return gguf_content(metadata, _tensors(range(number, number + 1), "Q8_0"), f"wanted {number}")


def _other(number: int) -> Content:
    types: tuple[TensorType, ...] = ("Q4_K", "Q5_K", "Q6_K", "Q2_K", "Q3_K", "Q4_0")
    tensors = _tensors(range(_SHARDS), types[number % len(types)])
    return gguf_content({"general.architecture": "llama", **_tokenizer()}, tensors, f"other {number}")


def _tensors(shards: range, type_: TensorType) -> list[Tensor]:
    return [
        Tensor(f"blk.{shard * _TENSORS_OF_A_SHARD + number}.weight", (_COLUMNS, _ROWS), type_)
        for shard in shards
        for number in range(_TENSORS_OF_A_SHARD)
    ]


if __name__ == "__main__":
    run_alone(measure)
