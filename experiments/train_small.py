"""Trains a small language model with real structure, from text that every machine has.

    python experiments/train_small.py FOLDER [--kind llama|opt] [--cpu-minutes 30]

The text is the Python standard library's own sources (docstrings and code, without its tests),
the tokenizer a byte-level BPE of 1024 words learnt from it. On a CPU the model has 12 blocks and
16 heads; where CUDA is at hand, 24 blocks and more than 100M parameters. One file in 24 is held
back for calibration and one in 24 for evaluation: `calibration.txt` and `evaluation.txt` beside
the weights. The learning rate falls with the share of the budget spent, so the model is finished
when the budget is; a run that was stopped goes on where its last checkpoint was.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from isotune.simulator.io import write_text

END = "<|end|>"
SKIPPED = {"site-packages", "test", "tests", "idle_test", "encodings", "__pycache__"}
HELD_BACK = 24
CHECKPOINT_S = 60.0
HELD_CHARS = 400_000


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is trained, on how many tokens at once, and on how many files (all, if None)."""

    kind: str
    hidden: int = 192
    blocks: int = 12
    heads: int = 16
    kv_heads: int = 8
    vocabulary: int = 1024
    context: int = 256
    batch: int = 4
    peak_rate: float = 2e-3
    files: int | None = None

    @classmethod
    def large(cls, kind: str) -> "Size":
        """More than 100M parameters, for a GPU."""
        return cls(kind=kind, hidden=768, blocks=24, vocabulary=4096, context=512, batch=32,
                   peak_rate=6e-4)  # fmt: skip

    def model(self) -> Any:
        """A random model of this size: gated with grouped queries, or OPT-style with biases."""
        from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

        common = {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads,
            "max_position_embeddings": 2 * self.context,
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": None,
        }
        if self.kind == "opt":
            return OPTForCausalLM(
                OPTConfig(
                    **common,
                    ffn_dim=4 * self.hidden,
                    word_embed_proj_dim=self.hidden,
                    dropout=0.0,
                )
            )
        return LlamaForCausalLM(
            LlamaConfig(
                **common,
                num_key_value_heads=self.kv_heads,
                intermediate_size=8 * self.hidden // 3 // 32 * 32,
            )
        )


def sources() -> list[Path]:
    """The standard library's source files, in an order that is the same on every machine."""
    root = Path(os.__file__).parent
    found = [p for p in root.rglob("*.py") if not SKIPPED & set(p.relative_to(root).parts)]
    return sorted(found, key=lambda p: _digest(p.relative_to(root)))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.as_posix().encode()).hexdigest()


def texts(most: int | None = None) -> tuple[list[str], str, str]:
    """Texts to train on (of the first `most` files), to calibrate and to evaluate with.

    No file is in two of them.
    """
    files = [p.read_text(encoding="utf-8", errors="replace") for p in sources()[:most]]
    held = [""] * 2
    training = []
    for number, text in enumerate(files):
        which = number % HELD_BACK
        if which < 2 and len(held[which]) + len(text) <= HELD_CHARS:
            held[which] += text
        elif which >= 2:
            training.append(text)
    return training, held[0], held[1]


def tokenizer(training: list[str], words: int) -> Any:
    """A byte-level BPE: every text has tokens, nothing is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    learnt.train_from_iterator(training, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=learnt, bos_token=END, eos_token=END)


def prepare(folder: Path, size: Size) -> Tensor:
    """Write tokenizer and held-back texts; the training text's tokens [tokens].

    They are kept beside the checkpoint until training is done.
    """
    kept = folder / "tokens.pt"
    if kept.exists():
        return cast(Tensor, torch.load(kept, weights_only=True))  # noqa: TID251
    training, calibration, evaluation = texts(size.files)
    coder = tokenizer(training[:: 4 if size.files is None else 1], size.vocabulary)
    coder.save_pretrained(folder)
    write_text(folder / "calibration.txt", calibration)
    write_text(folder / "evaluation.txt", evaluation)
    ids: list[int] = []
    for coded in coder(training)["input_ids"]:
        ids += [0, *coded]
    _save(kept, torch.tensor(ids, dtype=torch.int32))
    return torch.tensor(ids, dtype=torch.int32)


def batches(ids: Tensor, size: Size, seed: int, first: int) -> Iterator[Tensor]:
    """Random stretches of the text [batch, context]; step n is the same however often resumed."""
    step = first
    while True:
        chance = torch.Generator().manual_seed(seed * 1_000_003 + step)
        starts = torch.randint(0, len(ids) - size.context, (size.batch,), generator=chance)
        yield torch.stack([ids[s : s + size.context] for s in starts.tolist()]).long()
        step += 1


def rate(share: float, peak: float) -> float:
    """Learning rate after a share of the budget: a short warm-up, then down to nothing."""
    warm = 0.02
    return peak * (share / warm if share < warm else max(0.0, (1.0 - share) / (1.0 - warm)))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When training ends: CPU seconds of this process (on a GPU: seconds), or steps."""

    seconds: float
    steps: int | None = None

    def share(self, spent: float, step: int) -> float:
        """How much of it is spent."""
        return spent / self.seconds if self.steps is None else step / self.steps


def train(folder: Path, size: Size, budget: Budget, *, seed: int = 0, device: str = "cpu") -> float:
    """Train a model into a Hugging Face folder; the mean loss [nats/token] of its last steps."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    ids = prepare(folder, size)
    model = size.model().to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=size.peak_rate, betas=(0.9, 0.95), weight_decay=0.1
    )
    state = _resume(folder, size, model, optimizer)
    step, before, loss = state["step"], state["spent"], state["loss"]
    clock = time.process_time if device == "cpu" else time.monotonic
    started = saved = clock()
    for batch in batches(ids, size, seed, step):
        spent = before + clock() - started
        share = budget.share(spent, step)
        if share >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(share, size.peak_rate)
        now = _step(model, optimizer, batch.to(device))
        loss = now if loss is None else 0.9 * loss + 0.1 * now
        step += 1
        if clock() - saved > CHECKPOINT_S:
            saved = clock()
            _keep(folder, size, model, optimizer, {"step": step, "spent": spent, "loss": loss})
            print(f"{share:4.0%} step {step} loss {loss:.3f} spent {spent:.0f} s", flush=True)
    model.eval().cpu().save_pretrained(folder)
    write_text(folder / "training.json", json.dumps(_record(model, step, spent, loss, size)))
    for path in (_checkpoint(folder), folder / "tokens.pt"):
        path.unlink(missing_ok=True)
    return float(loss or 0.0)


def _step(model: Any, optimizer: Any, batch: Tensor) -> float:
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=batch.is_cuda):
        loss = model(input_ids=batch, labels=batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _record(model: Any, step: int, spent: float, loss: Any, size: Size) -> dict[str, object]:
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": step,
        "tokens": step * size.batch * size.context,
        "seconds": round(spent),
        "last_loss": loss,
    }


def _checkpoint(folder: Path) -> Path:
    return folder / "checkpoint.pt"


def _keep(folder: Path, size: Size, model: Any, optimizer: Any, state: dict[str, Any]) -> None:
    held = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "size": repr(size)}
    _save(_checkpoint(folder), state | held)


def _save(path: Path, what: Any) -> None:
    """Whole or not at all."""
    beside = path.with_suffix(".part")
    torch.save(what, beside)
    beside.replace(path)


def _resume(folder: Path, size: Size, model: Any, optimizer: Any) -> dict[str, Any]:
    path = _checkpoint(folder)
    if not path.exists():
        return {"step": 0, "spent": 0.0, "loss": None}
    state: dict[str, Any] = torch.load(path, weights_only=True)  # noqa: TID251
    if state["size"] != repr(size):
        raise SystemExit(f"{path}: a checkpoint of {state['size']}; remove it to start anew")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state


def main() -> None:
    """Train one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("llama", "opt"), default="llama")
    parser.add_argument("--hidden", type=int, help="width (192 on a CPU)")
    parser.add_argument("--cpu-minutes", type=float, default=30.0, help="minutes on a GPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    size = Size.large(asked.kind) if asked.device == "cuda" else Size(kind=asked.kind)
    if asked.hidden:
        size = Size(**(vars(size) | {"hidden": asked.hidden}))
    budget = Budget(seconds=asked.cpu_minutes * 60.0)
    loss = train(asked.folder, size, budget, seed=asked.seed, device=asked.device)
    print(f"{asked.folder}: loss {loss:.3f} nats per token over the last steps")


if __name__ == "__main__":
    main()
