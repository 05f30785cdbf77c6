"""Who loads batches ahead of the loop that uses them: processes, or threads.

Processes are spawned, never forked: a child that inherits a device's driver, or a lock that nobody will
release, hangs or worse. Batch `n` comes from worker `n % count`, over a channel of its own, so that batches
come in order whatever time they take, and a process whose parent is gone reads the channel's end and ends.
"""
from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import random
import signal
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from itertools import islice
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from pluggrad.data.channel import Channel, Message, message
from pluggrad.data.dataset import Dataset
from pluggrad.data.order import Order, stream
from pluggrad.errors import WorkerDied
from pluggrad.tensor import manual_seed

_PATIENCE_S = 5.0  # from asking a process to end to ending it
_MAIN = "Code that starts processes has to stand under `if __name__ == '__main__':` in the program's file"


class Fetch(NamedTuple):
    """How to load a batch: the dataset, which items, and what joins them. Pickled for each process."""

    dataset: Dataset
    order: Order
    collate_fn: Callable[[list[Any]], Any]

    def __call__(self, epoch: int, number: int) -> Any:
        return self.collate_fn([self.dataset[int(index)] for index in self.order.indices(epoch, number)])


# ---- threads -------------------------------------------------------------------------------------
def by_threads(fetch: Fetch, epoch: int, first: int, count: int, prefetch: int) -> Iterator[Any]:
    """The batches from `first` to the epoch's last, loaded by `count` threads, `prefetch` each ahead."""
    numbers = iter(range(first, fetch.order.batches))
    waiting: deque[Future[Any]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="pluggrad-loader")

    def load(settings: Context, number: int) -> Any:
        return settings.run(fetch.__call__, epoch, number)

    def submit(more: int) -> None:
        waiting.extend(pool.submit(load, copy_context(), number) for number in islice(numbers, more))

    try:
        submit(count * prefetch)
        while waiting:
            batch = waiting.popleft().result()
            submit(1)
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


# ---- processes -----------------------------------------------------------------------------------
class _Worker(NamedTuple):
    process: SpawnProcess
    channel: Channel


class Workers:
    """Processes that load batches, until `close`, the end of the program, or nobody holds them any more."""

    def __init__(self, fetch: Fetch, count: int, prefetch: int) -> None:
        self._order, self._prefetch = fetch.order, prefetch
        content = _packed(fetch)
        self._workers: list[_Worker] = []
        self._owner = os.getpid()
        self.close = weakref.finalize(self, _stop, self._workers, self._owner)
        for index in range(count):
            self._workers.append(_started(index))
        for worker in self._workers:
            with contextlib.suppress(ConnectionError):  # said better where its first answer does not come
                worker.channel.send(content)

    @property
    def inherited(self) -> bool:
        """True in a fork of the process that started them, which must leave them alone."""
        return os.getpid() != self._owner

    def batches(self, epoch: int, first: int) -> Iterator[Any]:
        """The batches from `first` to the epoch's last. What a dataset raises is raised here, with a note."""
        last, ahead = self._order.batches, len(self._workers) * self._prefetch
        for number in range(first, min(first + ahead, last)):
            self._ask(epoch, number)
        for number in range(first, last):
            batch = self._answer(number)
            if number + ahead < last:
                self._ask(epoch, number + ahead)
            yield batch

    def _ask(self, epoch: int, number: int) -> None:
        with contextlib.suppress(ConnectionError):
            self._workers[number % len(self._workers)].channel.send(message((epoch, number)))

    def _answer(self, number: int) -> Any:
        index = number % len(self._workers)
        process, channel = self._workers[index]
        try:
            answer = channel.receive()
        except (EOFError, ConnectionError):
            process.join(_PATIENCE_S)
            raise WorkerDied(op="DataLoader", expected=f"batch {number} from worker {index}",
                             got=f"the end of its process, exit code {process.exitcode}",
                             hint=f"{_MAIN}; -9 is what a system short of memory does") from None
        if isinstance(answer, _Failure):
            raise answer.error(f"in worker {index} of the DataLoader, for batch {number}")
        return answer


def _packed(fetch: Fetch) -> Message:
    try:
        # pickled twice, so that a process which cannot make it again can say so
        return message(pickle.dumps(fetch))
    except Exception as error:  # a dataset of somebody else's may raise anything
        error.add_note("A DataLoader with num_workers sends its dataset and collate_fn to processes: use "
                       "functions and classes from the top of a module, or worker_type='thread'.")
        raise


def _started(index: int) -> _Worker:
    ours, theirs = Channel.pair()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(theirs,), name=f"pluggrad-loader-{index}", daemon=True)
    with _ctrl_c_held():
        process.start()
    theirs.close()  # else the end of the process would not end the channel
    return _Worker(process, ours)


@contextlib.contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which a terminal sends to all: their parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(workers: list[_Worker], owner: int) -> None:
    """End the processes; a fork of their owner only lets go of their channels."""
    for worker in workers:
        worker.channel.close()
    if os.getpid() != owner:
        return
    for process, _ in workers:
        process.terminate()
    for process, _ in workers:
        process.join(_PATIENCE_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        process.close()
    workers.clear()


# ---- inside a process ----------------------------------------------------------------------------
class _Failure:
    """An exception on its way to the parent, and its traceback as text."""

    def __init__(self, error: BaseException) -> None:
        self._text = "".join(traceback.format_exception(error))
        try:
            self._pickled = pickle.dumps(error)
            pickle.loads(self._pickled)  # some can be pickled, but not made again
        except Exception:
            self._pickled = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))

    def error(self, where: str) -> BaseException:
        """The exception, with the place and the traceback as a note."""
        error: BaseException = pickle.loads(self._pickled)
        error.add_note(f"{where}:\n{self._text}")
        return error


def _serve(channel: Channel) -> None:
    """Answer each request (epoch, batch) until the channel ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers: SimpleQueue[Message] = SimpleQueue()
    # by a thread: a channel holds little, and the next batch must not wait until this one is fetched
    Thread(target=_send_all, args=(channel, answers), daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):
        fetch = _unpickled(channel.receive())
        while True:
            epoch, number = channel.receive()
            answers.put(_answered(fetch, epoch, number))


def _send_all(channel: Channel, answers: SimpleQueue[Message]) -> None:
    with contextlib.suppress(ConnectionError):  # the parent hung up
        while True:
            channel.send(answers.get())


def _unpickled(content: bytes) -> Fetch | _Failure:
    try:
        fetch: Fetch = pickle.loads(content)
    except Exception as error:
        error.add_note("The dataset or collate_fn could not be made again in a new process, where its parts "
                       "have to be importable. worker_type='thread' has no such need.")
        return _Failure(error)
    return fetch


def _answered(fetch: Fetch | _Failure, epoch: int, number: int) -> Message:
    if isinstance(fetch, _Failure):
        return message(fetch)
    try:
        _seed(fetch.order.seed, epoch, number)
        return message(fetch(epoch, number))
    except Exception as error:
        return message(_Failure(error))


def _seed(*key: int) -> None:
    """Start every random stream of this process anew, as the batch decides, whichever worker loads it."""
    number = int(stream(*key).random_raw())
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002 - the one that datasets may use
    manual_seed(number)
