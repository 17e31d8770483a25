"""Logits of a node's edges, passed from vLLM's engine to a search in another process.

vLLM's log-probabilities come as Python lists. They are padded to the longest of all requests of a batch. Beside a node
with 25,000 edges, every other node then costs as much. So the engine writes the logits of a request's edges into a file
that was made for this request alone. The file is in memory where the system has such a folder. The search reads it once
vLLM says that the request is done. A request that was given up has no file any more, and what is written for it later
is lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Float32, Int32
from ..errors import ModelError

NAME = "whereupon_edges"
PROCESSOR = "whereupon.decode.vllm_worker:EdgeLogits"
"""The logits processor that vLLM has to be started with."""
_IN_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class EdgesWanted:
    """What a request wants beside the next token: the logits of `token_J` (int32 [J]), in a file that is there."""

    path: bytes
    token_J: Int32

    @property
    def extra_args(self) -> dict[str, list[bytes]]:
        """For vLLM's `SamplingParams`."""
        return {NAME: [self.path, self.token_J.tobytes()]}

    @classmethod
    def of(cls, sampling_params: Any) -> EdgesWanted | None:
        """What a request wants. Only our own can: no body of a request over HTTP holds bytes."""
        match (sampling_params.extra_args or {}).get(NAME):
            case [bytes() as path, bytes() as tokens]:
                return cls(path, np.frombuffer(tokens, np.int32))
        return None

    def write(self, logit_J: Float32) -> None:
        """Write what was wanted, in place of what is there: a prompt that is read in parts has logits for each.

        Where that fails (a request given up, a full memory), `LogitsFile.read` says so: an error here would
        end the engine.
        """
        with contextlib.suppress(OSError):
            file = os.open(self.path, os.O_WRONLY)
            try:
                os.pwrite(file, logit_J.tobytes(), 0)
            finally:
                os.close(file)


class EdgeFiles:
    """A folder for the files, which only this user may read. It goes with this object, or with the process."""

    def __init__(self) -> None:
        place = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="whereupon-edges-", dir=place))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def wanted(self, token_J: Int32) -> Iterator[tuple[EdgesWanted, LogitsFile]]:
        """Around a request: what it should want, and where that is found once the request is done."""
        descriptor, path = tempfile.mkstemp(dir=self.folder)
        try:
            yield EdgesWanted(os.fsencode(path), token_J), LogitsFile(descriptor, len(token_J))
        finally:
            os.close(descriptor)
            os.unlink(path)


@dataclass(frozen=True)
class LogitsFile:
    """The file of a request that wants the logits of `num` edges."""

    descriptor: int
    num: int

    def read(self) -> Float32:
        """float32 [J]. Raises ModelError where they were not written, or are not finite."""
        size = 4 * self.num
        written = os.pread(self.descriptor, size, 0)
        logit_J = np.frombuffer(written, np.float32) if len(written) == size else np.full(1, np.nan, np.float32)
        if not np.isfinite(logit_J).all():
            raise ModelError(
                "vLLM gives scores that are not finite, or not for all continuations: expected a server started by "
                "`whereupon serve`, and complete model weights."
            )
        return logit_J
