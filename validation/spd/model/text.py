"""Text as windows of tokens, for calibration and evaluation."""

import hashlib
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from isotune.simulator.errors import InputError

BYTES = "bytes"
_MOST_BYTES = 1_000_000_000
_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "spiece.model",
)


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """How a text becomes tokens; `bos` is the token that opens every text, if there is one."""

    name: str
    encode: Callable[[bytes], list[int]]
    bos: int | None = None


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of equal length, ids [windows, context]; the last `scored` tokens of each count."""

    ids: Tensor
    scored: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Number of scored tokens in all windows."""
        return len(self) * self.scored

    def batches(self, size: int) -> tuple[Self, ...]:
        """The windows by `size`, in order."""
        return tuple(type(self)(ids=ids, scored=self.scored) for ids in self.ids.split(size))


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Tokens of each text file; `digest` is that of the texts and of how they were read."""

    files: tuple[Tensor, ...]
    digest: str
    bos: int | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens in all files."""
        return sum(len(file) for file in self.files)

    def split(self, share: float) -> tuple[Self, Self]:
        """The corpus without the last `share` of every file, and those last parts."""
        first, last = [], []
        for file in self.files:
            at = len(file) - round(len(file) * share)
            first.append(file[:at])
            last.append(file[at:])
        return replace(self, files=tuple(first)), replace(self, files=tuple(last))

    def windows(
        self,
        context: int,
        *,
        stride: int | None = None,
        count: int | None = None,
        seed: int = 0,
        what: str = "text",
    ) -> Windows:
        """Windows of `context` tokens, one every `stride`; `count` of them drawn by `seed`.

        The files follow one another. A window starts with the opening token where the tokenizer
        has one; its last `stride` tokens are scored, those before are context (with a stride as
        long as the window all but its first).

        Raises:
            InputError: the text is shorter than a window, or sizes that make no window.
        """
        lead = [] if self.bos is None else [self.bos]
        body = context - len(lead)
        step = stride or body
        if body < 2 or not 1 <= step <= context:
            raise InputError(
                f"context {context}, stride {step}: no such windows (allowed: a context of at "
                "least 3, a stride from 1 to the context)"
            )
        if self.tokens < body:
            raise InputError(
                f"{what}: {self.tokens} tokens are shorter than the context of {context} (give "
                "more text, or a shorter --context)"
            )
        whole = torch.cat(self.files)
        parts = whole.unfold(0, body, min(step, body))
        if count is not None and count < len(parts):
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(len(parts), generator=generator)[:count].sort().values
            parts = parts[chosen]
        opening = torch.tensor(lead, dtype=torch.long).expand(len(parts), len(lead))
        return Windows(ids=torch.cat([opening, parts], 1), scored=min(step, context - 1))


def repair_windows(
    corpus: Corpus, context: int, *, count: int, seed: int, share: float = 0.2
) -> tuple[Windows, Windows]:
    """`count` windows to fit repairs on, and as many more from the held-back last `share` of
    every file, in proportion, to judge them on.

    Raises:
        InputError: either text is shorter than a window.
    """
    fit, judge = corpus.split(share)
    fewer = max(1, round(count * share / (1 - share)))
    return (
        fit.windows(context, count=count, seed=seed, what="calibration text"),
        judge.windows(context, count=fewer, seed=seed, what="held-back text"),
    )


def read_corpus(paths: Sequence[Path], tokenizer: Tokenizer) -> Corpus:
    """The tokens of text files.

    Raises:
        InputError: a file that cannot be read, or is not UTF-8 where the tokenizer needs text.
    """
    digest, files = hashlib.sha256(tokenizer.name.encode()), []
    for path in paths:
        try:
            content = _content(path)
        except OSError as error:
            raise InputError(f"{path}: cannot read it ({error.strerror})") from error
        digest.update(hashlib.sha256(content).digest())
        try:
            files.append(torch.tensor(tokenizer.encode(content), dtype=torch.long))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    return Corpus(files=tuple(files), digest=digest.hexdigest(), bos=tokenizer.bos)


def _content(path: Path) -> bytes:
    """The bytes of a regular file of a text's size: a pipe or a device may never end.

    Raises:
        InputError: it is something else, or larger.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a file (allowed: a regular file of UTF-8 text)")
    if status.st_size > _MOST_BYTES:
        raise InputError(f"{path}: larger than {_MOST_BYTES} bytes (give a part of the text)")
    return path.read_bytes()


def read_tokenizer(folder: Path, name: str | None, vocab_size: int) -> Tokenizer:
    """The tokenizer of a model's folder, of another folder, or `bytes`: each byte is a token.

    Raises:
        InputError: none is there, transformers refuses it, or the model knows fewer tokens.
    """
    if name == BYTES:
        if vocab_size < 256:
            raise InputError(f"--tokenizer bytes: the model knows {vocab_size} tokens, not 256")
        return Tokenizer(name=BYTES, encode=list)
    source = folder if name is None else Path(name)
    if not any((source / name).is_file() for name in _FILES):
        raise InputError(
            f"{source}: no tokenizer in it (allowed: --tokenizer FOLDER, or --tokenizer bytes for "
            "a model of bytes)"
        )
    loaded = _load(source)
    last = max(loaded.get_vocab().values())
    if last >= vocab_size:
        raise InputError(
            f"{source}: the tokenizer goes up to token {last}, the model knows {vocab_size} tokens"
        )
    opened = loaded("a").input_ids[:1]
    bos = loaded.bos_token_id

    def encode(content: bytes) -> list[int]:
        text = content.decode("utf-8")
        return list(loaded(text, add_special_tokens=False, verbose=False).input_ids)

    digest = hashlib.sha256(repr(sorted(loaded.get_vocab().items())).encode()).hexdigest()
    return Tokenizer(name=digest, encode=encode, bos=bos if opened == [bos] else None)


def _load(source: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(source), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # its kinds differ from one tokenizer to the next
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{source}: its tokenizer is code that comes with the folder, and isotune runs no "
                "code of a model (allowed: --tokenizer FOLDER with a tokenizer of transformers)"
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{source}: transformers cannot read its tokenizer ({reason})") from error
