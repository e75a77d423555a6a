"""The repositories that the embedded hub serves by default: one for each feature worth seeing.

They take no disk space and no time to create: the weights are generated while they are sent.
"""

from gglib_nb.demo.content import bytes_content, noise_content
from gglib_nb.demo.llama import Llama
from gglib_nb.demo.repositories import DemoFile, DemoRepository

_QUANTIZATIONS = ("Q2_K", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
_SHARDS = 3


def generated_repositories() -> list[DemoRepository]:
    """Make the demonstration repositories, all of the owner `demo`; the same bytes each time.

    * `tiny-llama-GGUF`: one model in eight quantizations, 11 to 59 MB.
    * `sharded-llama-GGUF`: `Q4_K_M` in three shards in a folder, and `Q8_0` in one file.
    * `vision-llama-GGUF`: two quantizations, the `mmproj` file for pictures and an importance matrix.
    * `gated-llama-GGUF`: its bytes require a token with access.
    """
    return [_tiny(), _sharded(), _vision(), _gated()]


def _tiny() -> DemoRepository:
    model = Llama("Tiny Llama")
    return _repository(model, "tiny-llama", [_whole(model, "tiny-llama", label) for label in _QUANTIZATIONS], 4200)


def _sharded() -> DemoRepository:
    model = Llama("Sharded Llama", layers=16)
    shards = model.split("Q4_K_M", _SHARDS)
    files = [
        DemoFile(f"Q4_K_M/sharded-llama-Q4_K_M-{number:05}-of-{_SHARDS:05}.gguf", content)
        for number, content in enumerate(shards, start=1)
    ]
    return _repository(model, "sharded-llama", [*files, _whole(model, "sharded-llama", "Q8_0")], 310)


def _vision() -> DemoRepository:
    model = Llama("Vision Llama")
    files = [_whole(model, "vision-llama", label) for label in ("Q4_K_M", "Q8_0")]
    files.append(DemoFile("mmproj-vision-llama-F16.gguf", model.vision_projector()))
    files.append(DemoFile("vision-llama.imatrix", noise_content(400_000, "imatrix")))
    return _repository(model, "vision-llama", files, 95)


def _gated() -> DemoRepository:
    model = Llama("Gated Llama", layers=4)
    repository = _repository(
        model, "gated-llama", [_whole(model, "gated-llama", label) for label in ("Q4_K_M", "Q8_0")], 12
    )
    repository.gated = "manual"
    return repository


def _whole(model: Llama, stem: str, quantization: str) -> DemoFile:
    return DemoFile(f"{stem}-{quantization}.gguf", model.whole(quantization))


def _repository(model: Llama, stem: str, files: list[DemoFile], downloads: int) -> DemoRepository:
    readme = f"---\nlicense: mit\n---\n# {model.name}\n\nA made-up model: its weights are noise.\n"
    attributes = "*.gguf filter=lfs diff=lfs merge=lfs -text\n"
    extra = [
        DemoFile("README.md", bytes_content(readme.encode())),
        DemoFile(".gitattributes", bytes_content(attributes.encode())),
    ]
    size_bytes = next(file.size_bytes for file in files if file.path.endswith(".gguf"))
    return DemoRepository(
        repo_id=f"demo/{stem}-GGUF",
        files=[*files, *extra],
        downloads=downloads,
        likes=downloads // 10,
        gguf=model.hub_facts(size_bytes),
    )
