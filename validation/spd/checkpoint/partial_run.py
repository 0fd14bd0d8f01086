"""What an interrupted run had finished, in a folder beside its output until the run is complete."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from isotune.simulator.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PartialRun:
    """Finished parts by name: plain data each, and tensors where there are any.

    A part of a run with other inputs (another `digest`) counts as not there.
    """

    folder: Path
    digest: str

    @classmethod
    def beside(cls, output: Path, digest: str) -> "PartialRun":
        """The folder of the run that writes `output`."""
        return cls(folder=output.with_name(f".{output.name}.partial"), digest=digest)

    def save(self, name: str, data: Any, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Keep one more part, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        path = self._path(name)
        header = {"part": json.dumps({"digest": self.digest, "data": data})}
        try:
            self.folder.mkdir(exist_ok=True)
            save_file(dict(tensors or {}), path.with_suffix(".new"), header)
            path.with_suffix(".new").replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot write it ({error.strerror or error})") from error
        except SafetensorError as error:
            raise InputError(f"{path}: cannot write it ({error})") from error

    def read(self, name: str) -> tuple[Any, dict[str, Tensor]] | None:
        """A part of a run with the same inputs, if there is one that can be read."""
        try:
            with safe_open(self._path(name), framework="pt") as file:
                part = json.loads(file.metadata()["part"])
                names = file.keys()  # the file is no dict
                tensors = {key: file.get_tensor(key) for key in names}
            return (part["data"], tensors) if part["digest"] == self.digest else None
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self) -> None:
        """Delete the folder: the run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def kept_or_run(partial: PartialRun | None, name: str, run: Callable[[], Any]) -> Any:
    """The data of a part: what an interrupted run kept of it, or else what `run` gives, kept."""
    kept = partial.read(name) if partial else None
    if kept is not None:
        return kept[0]
    data = run()
    if partial:
        partial.save(name, data)
    return data
