"""Runs stages in order: skips what is done, hands each its inputs, keeps times outside the hashes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from infra.errors import ArtifactError, ResourceError
from infra.parallel.process_group import barrier, broadcast_object
from infra.pipeline.stage import Context, Stage
from infra.pipeline.step import in_order
from infra.progress import Bar, alive, hide_bars, log_to, progress, say
from infra.store import MANIFEST, RunFolder, sha256_path, stage_key

if TYPE_CHECKING:
    from infra.pipeline.plan.expected import Expectations, Expected

METRICS = "metrics.jsonl"
"""Progress and training metrics as they come, in the run folder and outside every hash."""


class PeakMemory:
    """Largest resident memory of this process and its children, sampled every 0.1 s. Bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        me = psutil.Process(os.getpid())
        while not self._stop.is_set():
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            self._stop.wait(0.1)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def perform(stage: Stage, run: RunFolder, inputs: Mapping[str, str], label: str) -> dict[str, Any]:
    """Run one stage into its folder. Returns its runtime entry.

    Raises ArtifactError naming a file that was changed while the stage read it.
    """
    start, processor = time.perf_counter(), time.process_time()
    log_to(run.root / METRICS)
    with alive(label), PeakMemory() as memory, run.writing(stage.name, stage.config, inputs) as part:
        if stage.parallel:
            broadcast_object((stage.name, str(part), label))
        stage.perform(Context(stage, part, run.root, label))
        if stage.parallel:
            barrier()
        for name, digest in stage.inputs.items():
            if Path(name).exists() and sha256_path(Path(name)) != digest:
                raise ArtifactError(f"{name} changed while stage {stage.name} was reading it; run the command again")
    return {
        "stage": stage.name,
        "seconds": round(time.perf_counter() - start, 3),
        "cpu_seconds": round(time.process_time() - processor, 3),  # without the sandbox's and the checker's processes
        "peak_memory_bytes": memory.peak,
        "ended": time.time(),
    }


def follow(stages: Sequence[Stage], run: RunFolder) -> None:
    """What a process other than rank 0 does while rank 0 is in :func:`run_stages`: its share of the parallel stages."""
    by_name = {s.name: s for s in stages}
    while (told := broadcast_object(None)) is not None:
        name, part, label = told
        stage = by_name[name]
        stage.perform(Context(stage, Path(part), run.root, label))
        barrier()


def run_stages(
    stages: Sequence[Stage],
    run: RunFolder,
    jobs: int = 1,
    threads: int = 1,
    expected: Expectations | None = None,
) -> list[str]:
    """Run what is not done yet, up to ``jobs`` stages at a time. Returns the names of the stages that ran.

    With several jobs each runs in a process of its own with ``threads`` threads. A stage starts when everything it
    needs is done; which stages run beside each other does not change what they write. What ``expected`` says is told
    before each stage and noted beside what the stage took.

    Raises ArtifactError when a finished stage's file is damaged, and whatever a stage raised, after the others
    under way have ended.
    """
    if [s.name for s in in_order(stages)] != [s.name for s in stages]:
        raise ValueError("a stage comes before one that it needs")
    with (
        _interrupts() as interrupts,
        _workers(jobs, threads, interrupts) as submit,
        progress(len(stages), "stages", "stage") as bar,
    ):
        queue = _Queue(stages, run, submit, bar, expected)
        while queue.waiting or queue.under_way:
            queue.start(jobs)
            if not queue.under_way:
                if queue.failure is not None:
                    break
                continue
            for future in wait(queue.under_way, return_when=FIRST_COMPLETED).done:
                queue.end(future)
                if interrupts.asked:
                    queue.failure = queue.failure or KeyboardInterrupt()
    if queue.failure is not None:
        raise queue.failure  # under torchrun the launcher ends the others
    broadcast_object(None)
    return queue.ran


class _Queue:
    """Stages waiting, under way and done, with the digests of those that are done. After a failure none is started."""

    def __init__(
        self,
        stages: Sequence[Stage],
        run: RunFolder,
        submit: Callable[..., Future[dict[str, Any]]],
        bar: Bar,
        expected: Expectations | None = None,
    ) -> None:
        self._expected = expected
        self._told: dict[str, Expected] = {}
        self._run, self._submit, self._bar = run, submit, bar
        self._label = {s.name: f"[{i}/{len(stages)}] {s.name}" for i, s in enumerate(stages, 1)}
        self._digests: dict[str, str] = {}
        self.waiting, self.ran = list(stages), list[str]()
        self.under_way: dict[Future[dict[str, Any]], Stage] = {}
        self.failure: BaseException | None = None

    def start(self, jobs: int) -> None:
        """Start what may be started, up to ``jobs`` at a time; what is done already is passed over."""
        for stage in list(self.waiting):
            ready = all(n in self._digests for n in stage.needs)
            if self.failure is not None or len(self.under_way) >= jobs or not ready:
                continue
            self.waiting.remove(stage)
            label, inputs = self._label[stage.name], _inputs(stage, self._digests)
            found = _finished(stage, self._run, inputs)
            if found is not None:
                say(f"{label} already done")
                self._done(stage, found)
                continue
            self._tell(stage.name, label)
            self.under_way[self._submit(perform, stage, self._run, inputs, label)] = stage

    def _tell(self, name: str, label: str) -> None:
        """Say that a stage begins, and what it is expected to take."""
        told = None if self._expected is None else self._expected.of(name)
        if told is not None:
            self._told[name] = told
        say(f"{label} ..." if told is None else f"{label} ... about {told}")

    def end(self, future: Future[dict[str, Any]]) -> None:
        """Note a stage that has ended, well or not."""
        stage = self.under_way.pop(future)
        try:
            entry = future.result()
        except BrokenProcessPool as error:
            names = sorted({stage.name, *(s.name for s in self.under_way.values())})
            self.failure = self.failure or _killed(names, error)
            return
        except (Exception, KeyboardInterrupt) as error:
            self.failure = self.failure or error
            return
        said = ""
        if (told := self._told.get(stage.name)) is not None and self._expected is not None:
            entry |= {"expected_seconds": round(told.seconds, 3), "expected_memory_bytes": round(told.memory)}
            said = f" (expected {told})"
            self._expected.learn(stage.name, entry["seconds"], entry["peak_memory_bytes"])
        self._run.log_runtime(entry)
        memory = entry["peak_memory_bytes"] / 2**30
        say(f"{self._label[stage.name]} done in {entry['seconds']:.1f} s, peak {memory:.2f} GiB{said}")
        manifest = self._run.manifest(stage.name)
        if manifest is None:
            raise ArtifactError(f"{self._run.path(stage.name)} has no manifest after it was made; run again")
        self.ran.append(stage.name)
        self._done(stage, manifest.digest)

    def _done(self, stage: Stage, digest: str) -> None:
        self._digests[stage.name] = digest
        self._bar.advance()


def _inputs(stage: Stage, digests: Mapping[str, str]) -> dict[str, str]:
    """What a stage's key names as its inputs: what it reads from outside, and the digests of what it needs."""
    return {**stage.inputs, **{n: digests[n] for n in stage.needs}}


def _killed(names: Sequence[str], error: BaseException) -> ResourceError:
    """What to tell the user when a worker process died."""
    found = ResourceError(
        f"a worker process was killed while making {', '.join(names)} (often for memory); nothing finished was lost: "
        "run the same command again, with fewer jobs if memory ran out"
    )
    found.__cause__ = error
    return found


def _finished(stage: Stage, run: RunFolder, inputs: Mapping[str, str]) -> str | None:
    """Digest of a stage that is done for these inputs and undamaged, else None."""
    manifest = run.manifest(stage.name)
    if manifest is None or manifest.key != stage_key(stage.name, stage.config, inputs):
        return None
    if not manifest.consistent:
        folder = run.path(stage.name)
        raise ArtifactError(
            f"{folder / MANIFEST} does not agree with its own key (damaged or edited); delete the folder {folder} to "
            "have it made again"
        )
    verified = run.verify(stage.name)
    return None if verified is None else verified.digest


class _Interrupts:
    """``asked``: Ctrl-C was pressed, also when a library swallowed the KeyboardInterrupt that it raised."""

    def __init__(self) -> None:
        self.asked, self._waits = False, False

    def handle(self, number: int, frame: object) -> None:
        self.asked = True
        if not self._waits:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ctrl-C in the block counts at its end: a process that is being started would die with a traceback."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    """Notes every Ctrl-C of the block."""
    found = _Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = signal.signal(signal.SIGINT, found.handle)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _workers(jobs: int, threads: int, interrupts: _Interrupts) -> Iterator[Callable[..., Future[dict[str, Any]]]]:
    """A function like ``Executor.submit``: in this process for one job, else in ``jobs`` processes."""
    if jobs == 1:
        yield _call_now
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(threads, os.getpid()))

    def submit(function: Callable[..., dict[str, Any]], *arguments: Any) -> Future[dict[str, Any]]:
        with interrupts.held():
            return pool.submit(function, *arguments)

    try:
        yield submit
    except BaseException:
        for process in (pool._processes or {}).values():
            process.kill()  # what they were writing stays a work folder, to be gone on from
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _call_now(function: Callable[..., dict[str, Any]], *arguments: Any) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    try:
        future.set_result(function(*arguments))
    except (Exception, KeyboardInterrupt) as error:
        future.set_exception(error)
    return future


def _start_worker(threads: int, parent: int) -> None:
    """A worker dies with its parent, uses its share of the cores and draws no bars of its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)  # it died before this worker asked to be told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    hide_bars()
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def plan_table(stages: Iterable[Stage], run: RunFolder) -> list[tuple[str, str, str]]:
    """(stage, state, needs) without running anything; state is 'done', 'partly done' or 'to do'."""
    digests: dict[str, str] = {}
    rows = []
    for stage in stages:
        state = "to do"
        if all(n in digests for n in stage.needs):
            inputs = _inputs(stage, digests)
            manifest = run.manifest(stage.name)
            if manifest is not None and manifest.key == stage_key(stage.name, stage.config, inputs):
                state = "done"
                digests[stage.name] = manifest.digest
            elif run.path(stage.name).with_name(Path(stage.name).name + ".part").exists():
                state = "partly done"
        rows.append((stage.name, state, ", ".join(stage.needs)))
    return rows
