"""Where a model's config.json lies: bundled, in the local Hugging Face cache, or at a path."""

import os
import re
from pathlib import Path

from isotune.simulator.errors import InputError
from isotune.simulator.io import did_you_mean

BUNDLED = Path(__file__).with_name("bundled")
_READ_AS = re.compile(r"(.+) as ([\w-]+)", re.DOTALL)
_IN_CACHE = re.compile(r"models--.+?--(.+)")

REPOSITORIES: dict[str, tuple[str, ...]] = {
    "llama-2-7b": ("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"),
    "llama-2-13b": ("meta-llama/Llama-2-13b-hf", "meta-llama/Llama-2-13b-chat-hf"),
    "llama-2-70b": ("meta-llama/Llama-2-70b-hf", "meta-llama/Llama-2-70b-chat-hf"),
    "llama-3-8b": ("meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct"),
    "llama-3.1-8b": (
        "meta-llama/Llama-3.1-8B",
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Meta-Llama-3.1-8B",
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
    ),
    "llama-3.1-70b": (
        "meta-llama/Llama-3.1-70B",
        "meta-llama/Llama-3.1-70B-Instruct",
        "meta-llama/Meta-Llama-3.1-70B",
        "meta-llama/Meta-Llama-3.1-70B-Instruct",
        "meta-llama/Llama-3.3-70B-Instruct",
    ),
    "llama-3.1-405b": (
        "meta-llama/Llama-3.1-405B",
        "meta-llama/Llama-3.1-405B-Instruct",
        "meta-llama/Meta-Llama-3.1-405B",
        "meta-llama/Meta-Llama-3.1-405B-Instruct",
    ),
    "mistral-7b": ("mistralai/Mistral-7B-v0.1",),
    "mixtral-8x22b": ("mistralai/Mixtral-8x22B-v0.1", "mistralai/Mixtral-8x22B-Instruct-v0.1"),
    "opt-6.7b": ("facebook/opt-6.7b",),
    "opt-13b": ("facebook/opt-13b",),
    "opt-30b": ("facebook/opt-30b",),
    "opt-66b": ("facebook/opt-66b",),
    "qwen2.5-72b": ("Qwen/Qwen2.5-72B",),
    "qwen3-32b": ("Qwen/Qwen3-32B",),
    "deepseek-v3": (
        "deepseek-ai/DeepSeek-V3",
        "deepseek-ai/DeepSeek-V3-0324",
        "deepseek-ai/DeepSeek-R1",
        "deepseek-ai/DeepSeek-R1-0528",
    ),
    "deepseek-v3.2": ("deepseek-ai/DeepSeek-V3.2",),
    "devstral-2-123b": ("mistralai/Devstral-2-123B-Instruct-2512",),
    "gemma-2-9b": ("google/gemma-2-9b", "google/gemma-2-9b-it"),
    "gemma-3-27b": ("google/gemma-3-27b-pt", "google/gemma-3-27b-it"),
    "gemma-4-31b": ("google/gemma-4-31B", "google/gemma-4-31B-it"),
    "glm-5.1": ("zai-org/GLM-5.1",),
    "gpt-oss-120b": ("openai/gpt-oss-120b",),
    "gpt-oss-20b": ("openai/gpt-oss-20b",),
    "kimi-k2.5": ("moonshotai/Kimi-K2.5",),
    "llama-4-maverick": (
        "meta-llama/Llama-4-Maverick-17B-128E",
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
    ),
    "llama-4-scout": (
        "meta-llama/Llama-4-Scout-17B-16E",
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    ),
    "minimax-m2.5": ("MiniMaxAI/MiniMax-M2.5",),
    "nemotron-3-nano-30b-a3b": ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",),
    "qwen3-235b-a22b": ("Qwen/Qwen3-235B-A22B",),
    "qwen3-30b-a3b": ("Qwen/Qwen3-30B-A3B",),
    "qwen3-8b": ("Qwen/Qwen3-8B",),
    "qwen3-coder-480b-a35b": ("Qwen/Qwen3-Coder-480B-A35B-Instruct",),
    "qwen3.5-27b": ("Qwen/Qwen3.5-27B",),
    "qwen3.5-397b-a17b": ("Qwen/Qwen3.5-397B-A17B",),
}
"""Hugging Face repositories whose config.json has the sizes of a bundled model."""


def bundled_models() -> tuple[str, ...]:
    """Names of the models that come with isotune, sorted."""
    return tuple(sorted(path.stem for path in BUNDLED.glob("*.json")))


def split_name(name: str) -> tuple[str, str | None]:
    """`PATH as FAMILY` in its two parts; the family is None where none is named."""
    match = _READ_AS.fullmatch(name)
    return (match[1], match[2]) if match else (name, None)


def model_config_file(name_or_path: str) -> Path:
    """The config.json of a bundled model, of a Hugging Face id, of a folder, or at a path.

    An id is that of a bundled model's repository, or one that lies in the local Hugging Face cache
    (`HF_HUB_CACHE`, `HF_HOME`); nothing is fetched. The folder of a repository in that cache is as
    good as its snapshot.

    Raises:
        InputError: none of these (the nearest names are given).
    """
    name, known = split_name(name_or_path)[0], bundled_models()
    if name.lower() in known:
        return BUNDLED / f"{name.lower()}.json"
    # Unlike Path.exists this is false, not an OSError, for an overlong name.
    if os.path.exists(name):  # noqa: PTH110
        path = Path(name)
        return _in_folder(path) if path.is_dir() else path
    for model, repositories in REPOSITORIES.items():
        if name.lower() in map(str.lower, repositories):
            return BUNDLED / f"{model}.json"
    if re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name):
        cached = _cache() / f"models--{name.replace('/', '--')}"
        if cached.is_dir():
            return _in_folder(cached)
    wanted = name.lower().rsplit("/", 1)[-1].removesuffix("-hf")
    raise InputError(
        f"model: {name!r:.80} is neither a bundled model, nor a path, nor in the Hugging Face "
        f"cache {_cache()} ({did_you_mean(wanted, known)}bundled: {', '.join(known)})"
    )


def name_of(file: Path) -> str:
    """What a model is called: its file or folder, or its repository in a Hugging Face cache."""
    if file.name != "config.json":
        return file.stem
    # Only the folder is resolved: in a Hugging Face cache the file is a link to a nameless blob.
    folder = file.parent.resolve()
    repository = _IN_CACHE.fullmatch(folder.parent.parent.name)
    if repository and folder.parent.name == "snapshots":
        return repository[1]
    return folder.name


def _in_folder(folder: Path) -> Path:
    """The config.json in a folder, or in the newest snapshot of a folder of a cache."""
    direct, snapshots = folder / "config.json", folder / "snapshots"
    if direct.exists() or not snapshots.is_dir():
        return direct
    main = folder / "refs" / "main"
    current = snapshots / main.read_text().strip() / "config.json" if main.is_file() else direct
    if current.exists():
        return current
    found = sorted(snapshots.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else direct


def _cache() -> Path:
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
