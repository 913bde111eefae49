"""A process that does one named task after another, so that a crash or a hang costs one task and not the run."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["HANG", "Worker", "serve"]

START = 300.0  # seconds for a worker to start
READY, HANG = "ready", "hang"


def serve(answers_to: Callable[[str], Iterable[Any]]) -> None:
    """Run as a worker: read names of tasks, and write the answers to each as lines of JSON."""
    print(json.dumps({"said": READY}), flush=True)
    for line in sys.stdin:
        for answer in answers_to(line.strip()):
            print(json.dumps({"said": answer}), flush=True)


class Worker:
    """A process that runs ``script --work``. Each task has as many answers as the script gives for it."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen([sys.executable, script, "--work"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
        self.buffer = b""
        if self._line(START) != {"said": READY}:
            self.stop()
            raise RuntimeError(f"a worker of {script} did not start")

    def _line(self, limit: float) -> dict[str, Any]:
        """Return the next line of JSON, or what came instead of it within ``limit`` seconds."""
        assert self.process.stdout is not None
        end = time.monotonic() + limit
        while True:
            while b"\n" not in self.buffer:
                if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                    return {"failed": HANG}
                if not (got := os.read(self.process.stdout.fileno(), 1 << 16)):
                    return {"failed": f"the process ended with {self.process.wait()}"}
                self.buffer += got
            text, self.buffer = self.buffer.split(b"\n", 1)
            if text.startswith(b'{"said"'):  # other lines are printed by the programs that are verified
                return json.loads(text)

    def ask(self, name: str, answers: int, limit: float) -> tuple[list[Any], str]:
        """Return the answers to a task, and why it failed: the empty string, ``HANG``, or how the process ended.

        Each answer may take ``limit`` seconds. After a failure the worker has to be stopped.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\n".encode())
        self.process.stdin.flush()
        said: list[Any] = []
        while len(said) < answers:
            got = self._line(limit)
            if "failed" in got:
                return said, got["failed"]
            said.append(got["said"])
        return said, ""

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
