"""Runs commands of the command line in children of this process, so that torch is imported once and each run costs a fork."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a fork keeps no threads

import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass

import torch
import torch._dynamo  # what every optimiser imports, 4 s

from cortexflow import catalog
from cortexflow.app import cli

torch.set_num_threads(1)
for module in ("report.evaluation", "report.page", "synthesis"):
    catalog.load(f"cortexflow.{module}")
for room in ("data", "features", "encoding"):
    for name in catalog.names(room):
        catalog.find(room, name)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (minus the signal that ended it, None where it was too slow), and what it printed."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def one_line(self):
        """Whether it ended as a mistake of the user should: exit code 2 and one line on standard error, after any warnings."""
        lines = [line for line in self.err.splitlines() if not line.startswith("warning: ")]
        return self.code == 2 and len(lines) == 1 and lines[0].startswith("error: ")


class Command:
    """A running command. ``prepare`` is called in the child, before the command."""

    def __init__(self, *words, prepare=None):
        sys.stdout.flush()
        sys.stderr.flush()
        self.started, pipes = time.perf_counter(), (os.pipe(), os.pipe())
        self.pid = os.fork()
        if self.pid == 0:
            for number, pipe in enumerate(pipes, 1):
                os.dup2(pipe[1], number)
                os.close(pipe[0])
                os.close(pipe[1])
            os._exit(_run(words, prepare))
        for _, writing in pipes:
            os.close(writing)
        self.pipes = [reading for reading, _ in pipes]

    def kill(self):
        """Kill it as the system does when memory is short."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self, seconds=120.0):
        """Wait until it has ended; after ``seconds`` it is killed."""
        text, open_pipes, until = dict.fromkeys(self.pipes, b""), set(self.pipes), self.started + seconds
        while open_pipes and (left := until - time.perf_counter()) > 0:
            for pipe in select.select(list(open_pipes), [], [], left)[0]:
                block = os.read(pipe, 1 << 16)
                text[pipe] += block
                if not block:
                    open_pipes.discard(pipe)
        if open_pipes:
            self.kill()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        for pipe in self.pipes:
            os.close(pipe)
        out, err = (text[pipe].decode(errors="replace") for pipe in self.pipes)
        return Ended(None if open_pipes else code, out, err, time.perf_counter() - self.started)


def command(*words, prepare=None, seconds=120.0):
    """Run a command to its end."""
    return Command(*words, prepare=prepare).end(seconds)


def _run(words, prepare):
    """What a child does; its exit code is the interpreter's."""
    code = 1
    try:
        if prepare is not None:
            prepare()
        sys.argv = ["cortexflow", *map(str, words)]
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120
    return code
