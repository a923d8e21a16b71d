"""Runs of a sweep as processes: so many at a time, a log each, one bar over all of them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import sleep as pause
from types import FrameType

from rich.console import Console

from genmem.sweep.commands import next_words
from genmem.sweep.plan import Plan, Run
from genmem.sweep.progress import progress_bar

LOG = "sweep.log"
COMPANY = "sweep-jobs.json"
"""In a run folder: how many runs at most shared the machine with it, itself among them."""

SHOWN = 12
"""Lines of the log of a run that failed."""

PAUSE = 0.2


def run_missing(plan: Plan, jobs: int, console: Console) -> list[Run]:
    """Train and score what is missing, `jobs` runs at a time; returns the runs that failed.

    Ctrl-C, or SIGTERM, is passed on to the runs, which save and stop; the same sweep goes on there.

    Raises:
        KeyboardInterrupt: After that.
    """
    waiting = [run for run in plan.runs() if next_words(run, plan.plugins)]
    running: list[_Process] = []
    failed: list[Run] = []
    with progress_bar(plan, waiting, console) as bar, _terminable():
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_Process(waiting.pop(0), plan, jobs))
                pause(PAUSE)
                failed += _settle(running, console)
                bar.show([process.run for process in running])
        except KeyboardInterrupt:
            console.print(f"stopping {len(running)} runs; they save first")
            for process in running:
                process.interrupt()
            for process in running:
                process.wait()
            raise
    return failed


def _settle(running: list[_Process], console: Console) -> Iterator[Run]:
    """Take out the processes that have ended; the runs of those that failed, with their last lines."""
    for process in list(running):
        code = process.poll()
        if code is None:
            continue
        running.remove(process)
        if code == 0:
            console.print(f"{process.run.label}: done", highlight=False, soft_wrap=True)
            continue
        console.print(f"{process.run.label}: failed with exit code {code}; {process.log}:", soft_wrap=True)
        lines = process.log.read_text(errors="replace").splitlines()[-SHOWN:]
        console.print("\n".join(f"  {line}" for line in lines), highlight=False, markup=False)
        yield process.run


class _Process:
    """One run under way: its training, then the scorings that are missing, one after the other."""

    def __init__(self, run: Run, plan: Plan, jobs: int) -> None:
        self.run, self.log = run, run.folder / LOG
        self._plugins, self._jobs = plan.plugins, jobs
        run.folder.mkdir(parents=True, exist_ok=True)
        self._words = next_words(run, plan.plugins)
        self._start()

    def poll(self) -> int | None:
        """None while it goes on; else 0, or the exit code of what failed."""
        code = self._process.poll()
        if code != 0:
            return code
        words, self._words = self._words, next_words(self.run, self._plugins)
        if not self._words:
            return 0
        if self._words == words:  # it ended well and left nothing: again would be for ever
            return 1
        self._start()
        return None

    def interrupt(self) -> None:
        """Ask it to save and stop."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        """Until it has."""
        self._process.wait()

    def _start(self) -> None:
        words = self._words[0]
        if words[1] == "train":
            _note_company(self.run.folder / COMPANY, self._jobs)
        with self.log.open("ab") as log:
            log.write(f"$ {shlex.join(words)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self._jobs),
                start_new_session=True,  # a terminal's Ctrl-C reaches it once, from here
            )


def environment(jobs: int, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """This process's, with the cores dealt out to the jobs, unless OMP_NUM_THREADS says otherwise."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // jobs)), **given}


def company_of(run: Run) -> int | None:
    """How many runs at most shared the machine with it, itself among them; None where nobody knows."""
    file = run.folder / COMPANY
    return int(json.loads(file.read_text())["jobs"]) if file.exists() else None


def _note_company(file: Path, jobs: int) -> None:
    before = int(json.loads(file.read_text())["jobs"]) if file.exists() else 0
    file.write_text(json.dumps({"jobs": max(before, jobs)}))


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does while the block runs; asked twice, the runs are still let save."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
