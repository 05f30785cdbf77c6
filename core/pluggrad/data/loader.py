"""Batches of a dataset, epoch by epoch, shuffled by a seed and loaded ahead."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, Literal, cast, get_args

from pluggrad.data.collate import has_rows, on_device, rows, stacked
from pluggrad.data.dataset import Dataset
from pluggrad.data.order import Order
from pluggrad.data.progress import SILENT, progress_bar
from pluggrad.data.workers import Fetch, Workers, by_threads
from pluggrad.errors import DTypeError, StateError, ValueRangeError
from pluggrad.tensor.random_state import host_seed

WorkerType = Literal["process", "thread"]


class DataLoader:
    """Batches of `dataset` as tensors: each `for batch in loader` is an epoch.

    dataset: anything with `__len__` and `__getitem__`; of tensors (`TensorDataset`, a tensor, a `Subset` of
        them) a batch is one look-up on their device. An object with `__iter__` alone is read in its order.
    batch_size: items in a batch; the last one of an epoch is smaller, or left out with `drop_last`.
    shuffle: another order in each epoch, which `seed` decides, on every machine alike. Without a seed,
        `manual_seed` decides. `set_epoch` chooses the epoch.
    num_workers: processes that load batches ahead, `prefetch_factor` each; 0 loads in the loop itself. They
        are spawned, so the dataset has to be picklable and the program's code under
        `if __name__ == "__main__":`. They stay for the next epoch, and end with the loader, and when a loop
        is left early. `worker_type="thread"` takes threads: for datasets that wait, as for a network. In a
        process the random streams of Python, NumPy and pluggrad start anew at each batch, from the seed, the
        epoch and the batch, so that random transforms repeat, whatever the number of processes.
    collate_fn: makes a batch of a list of items; by default numbers and arrays are stacked and tuples and
        dictionaries kept, with a tensor in each place.
    device: where batches go (default: tensors stay where they are, arrays go to the default device).
    progress: show a bar, in a terminal or a notebook, with this text if it is one; needs tqdm.

    ValueRangeError for numbers out of range. An exception in a worker is raised in the loop, with the
    worker's traceback as a note; WorkerDied if its process ends.

        >>> loader = DataLoader(TensorDataset(Tensor.arange(5)), batch_size=2)
        >>> [batch.tolist() for (batch,) in loader]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, dataset: Dataset | Iterable[Any], batch_size: int = 1, shuffle: bool = False, *,
                 num_workers: int = 0, collate_fn: Callable[[list[Any]], Any] | None = None,
                 drop_last: bool = False, prefetch_factor: int = 2, worker_type: WorkerType = "process",
                 seed: int | None = None, device: str | None = None, progress: bool | str = False) -> None:
        _at_least(1, batch_size=batch_size, prefetch_factor=prefetch_factor)
        _at_least(0, num_workers=num_workers)
        if worker_type not in get_args(WorkerType):
            raise ValueRangeError(op="DataLoader", expected="worker_type 'process' or 'thread'",
                                  got=repr(worker_type))
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.num_workers, self.prefetch_factor, self.worker_type = num_workers, prefetch_factor, worker_type
        self.collate_fn = stacked if collate_fn is None else collate_fn
        self.device, self.progress = device, progress
        self._indexed = hasattr(dataset, "__getitem__")
        if not self._indexed:
            self._check_iterable()
        self._seed = seed
        self._epoch = self._position = 0
        self._begun = False  # some batches of this epoch were handed out here
        self._workers: Workers | None = None  # those that wait for the next epoch

    def _check_iterable(self) -> None:
        if not hasattr(self.dataset, "__iter__"):
            raise DTypeError(op="DataLoader", expected="a dataset with __getitem__ and __len__, or __iter__",
                             got=type(self.dataset).__name__)
        if self.shuffle or self.num_workers:
            raise ValueRangeError(op="DataLoader", expected="shuffle and num_workers for a dataset with "
                                  "__getitem__ only", got=f"one with __iter__, {type(self.dataset).__name__}")

    # ---- the epoch and the place in it ---------------------------------------------------------------------
    @property
    def seed(self) -> int:
        """What decides the order of items; without one given, drawn where it is first needed."""
        if self._seed is None:
            self._seed = host_seed()
        return self._seed

    @property
    def epoch(self) -> int:
        """The epoch under way, or the next one; the first is 0."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop be this epoch, from its beginning."""
        _at_least(0, epoch=epoch)
        self._epoch, self._position, self._begun = epoch, 0, False

    def state_dict(self) -> dict[str, int]:
        """Where the loader is: numbers, which a checkpoint or a JSON file can hold.

        Within a loop, the batches handed out so far count as used: a loader that loads this goes on with the
        next one.
        """
        return {"epoch": self._epoch, "position": self._position, **self._identity()}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go on where a loader over the same dataset was; the next loop is the rest of its epoch.

        StateError if the number of items, the batch size, shuffling or `drop_last` differ.
        """
        own, given = self._identity(), dict(state_dict)
        differing = [f"{name} {given.get(name)}, here {value}" for name, value in own.items()
                     if name != "seed" and given.get(name) != value]
        if differing or not {"epoch", "position", "seed"} <= given.keys():
            raise StateError(op="DataLoader.load_state_dict", expected="the state of a loader like this one",
                             got="; ".join(differing) or f"names {', '.join(given)}")
        self.close()
        self._seed = given["seed"]
        self._epoch, self._position, self._begun = given["epoch"], given["position"], False

    def _identity(self) -> dict[str, int]:
        items = len(self.dataset) if self._indexed else -1  # type: ignore[arg-type]
        return {"seed": self.seed, "items": items, "batch_size": self.batch_size,
                "shuffle": int(self.shuffle), "drop_last": int(self.drop_last)}

    # ---- batches -------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        """Batches in an epoch; TypeError for a dataset without a length."""
        return self._order().batches

    def _order(self) -> Order:
        # without shuffling the seed is of no use but to processes: nothing is drawn from the stream then
        seed = self.seed if self.shuffle or self.num_workers else 0
        count = len(self.dataset)  # type: ignore[arg-type]
        return Order(count, self.batch_size, self.shuffle, self.drop_last, seed)

    def __iter__(self) -> Iterator[Any]:
        if self._begun:  # a loop that was left early: the next one is another epoch
            self.set_epoch(self._epoch + 1)
        epoch, first = self._epoch, self._position
        self._begun = True
        total = len(self) if hasattr(self.dataset, "__len__") else None
        with self._bar(total, first) as bar, closing(self._loaded(epoch, first)) as batches:
            for number, batch in enumerate(batches, first):
                self._position = number + 1
                bar.update()
                yield on_device(batch, self.device)
        self.set_epoch(epoch + 1)

    def _bar(self, total: int | None, first: int) -> Any:
        if not self.progress:
            return SILENT
        label = self.progress if isinstance(self.progress, str) else ""
        return progress_bar(total, label, initial=first, required=True)

    def _loaded(self, epoch: int, first: int) -> Generator[Any, None, None]:
        """The batches of an epoch from `first` on: of arrays, or of tensors where the dataset holds them."""
        if not self._indexed:
            yield from itertools.islice(self._streamed(), first, None)
            return
        order, dataset = self._order(), cast(Dataset, self.dataset)
        if self.collate_fn is stacked and has_rows(dataset):
            yield from (rows(dataset, order.indices(epoch, number)) for number in range(first, order.batches))
            return
        fetch = Fetch(dataset, order, self.collate_fn)
        if self.num_workers == 0:
            yield from (fetch(epoch, number) for number in range(first, order.batches))
        elif self.worker_type == "thread":
            yield from by_threads(fetch, epoch, first, self.num_workers, self.prefetch_factor)
        else:
            yield from self._by_processes(fetch, epoch, first)

    def _by_processes(self, fetch: Fetch, epoch: int, first: int) -> Generator[Any, None, None]:
        # taken while in use: a second loop at the same time gets processes of its own
        workers, self._workers = self._workers, None
        if workers is None or workers.inherited:
            workers = Workers(fetch, self.num_workers, self.prefetch_factor)
        try:
            yield from workers.batches(epoch, first)
        except BaseException:  # also a loop that is left early: answers on their way are for nobody
            workers.close()
            raise
        self.close()  # those of a loop at the same time, which was done first
        self._workers = workers

    def _streamed(self) -> Iterator[Any]:
        items = iter(cast(Iterable[Any], self.dataset))
        while chunk := list(itertools.islice(items, self.batch_size)):
            if len(chunk) < self.batch_size and self.drop_last:
                return
            yield self.collate_fn(chunk)

    def close(self) -> None:
        """End the processes that wait for the next epoch; a later loop starts new ones."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None


def _at_least(minimum: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < minimum:
            raise ValueRangeError(op="DataLoader", expected=f"{name} of at least {minimum}", got=repr(number))
