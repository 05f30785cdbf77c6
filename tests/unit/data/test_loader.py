"""Batches: their order, who loads them, how a loader goes on where it was, and that nothing stays behind."""

from __future__ import annotations

import gc
import itertools
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pluggrad import GlobalCounters, Tensor, jit, manual_seed, memory_stats
from pluggrad.data import DataLoader, Subset, TensorDataset, random_split
from pluggrad.errors import StateError, ValueRangeError, WorkerDied
from tests.loader_datasets import Dying, Noise, Picky, Refusing, Rows, Slow, Squares, Strange, WhoLoads

WORKERS = [{}, {"num_workers": 2}, {"num_workers": 2, "worker_type": "thread"}]
NAMES = ["here", "processes", "threads"]


def firsts(loader) -> list[list[int]]:
    """The first part of every batch of an epoch."""
    return [(batch[0] if isinstance(batch, tuple) else batch).tolist() for batch in loader]


def items(loader) -> list[int]:
    """The first part of every item of an epoch."""
    return list(itertools.chain.from_iterable(firsts(loader)))


# ---- order ---------------------------------------------------------------------------------------


def test_batches_in_order(device):
    loader = DataLoader(Squares(5), 2)
    assert len(loader) == 3
    (first, squares), *_, last = loader
    assert (first.tolist(), first.device, squares.tolist()) == ([0, 1], device, [[0, 0], [1, 1]])
    assert last[0].tolist() == [4]
    assert firsts(DataLoader(Squares(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert len(DataLoader(Squares(5), 2, drop_last=True)) == 2
    assert firsts(DataLoader(Squares(0), 2)) == []
    assert firsts(DataLoader([3, 1, 2])) == [[3], [1], [2]]


def test_shuffling_shows_everything_once_and_differs_from_epoch_to_epoch():
    loader = DataLoader(Squares(10), 4, shuffle=True, seed=1)
    epochs = [items(loader) for _ in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [items(DataLoader(Squares(10), 3, shuffle=True, seed=1))] == epochs[:1]
    assert items(DataLoader(Squares(10), 4, shuffle=True, seed=2)) != epochs[0]


def test_set_epoch():
    loader = DataLoader(Squares(10), 4, shuffle=True, seed=1)
    epochs = [firsts(loader) for _ in range(3)]
    loader.set_epoch(1)
    assert loader.epoch == 1
    assert [firsts(loader), firsts(loader)] == epochs[1:]
    assert loader.epoch == 3
    with pytest.raises(ValueRangeError, match="epoch of at least 0"):
        loader.set_epoch(-1)


def test_a_loop_left_early_is_an_epoch():
    loader, other = (DataLoader(Squares(10), 4, shuffle=True, seed=1) for _ in range(2))
    epochs = [firsts(other) for _ in range(2)]
    assert next(iter(loader))[0].tolist() == epochs[0][0]
    assert firsts(loader) == epochs[1]


def test_without_a_seed_manual_seed_decides():
    def order(seed):
        manual_seed(seed)
        loaders = [DataLoader(Squares(20), 20, shuffle=True) for _ in range(2)]
        return [firsts(loader) for loader in loaders]

    assert order(3) == order(3) != order(4)
    assert order(3)[0] != order(3)[1]


def test_two_loops_over_one_loader():
    loader = DataLoader(Squares(6), 2, num_workers=1)
    assert [(a[0].tolist(), b[0].tolist()) for a, b in zip(loader, loader)] == [
        ([0, 1], [0, 1]), ([2, 3], [2, 3]), ([4, 5], [4, 5])
    ]
    loader.close()
    assert multiprocessing.active_children() == []


# ---- tensors -------------------------------------------------------------------------------------


def test_tensors_are_read_batch_by_batch(device):
    x, y = Tensor.arange(20).reshape(10, 2), Tensor.arange(10)
    dataset = TensorDataset(x, y)
    loader = DataLoader(dataset, 4, shuffle=True, seed=1, num_workers=2)
    list(loader)
    before = GlobalCounters.snapshot()
    rows, labels = map(list, zip(*loader))
    after = GlobalCounters.snapshot()
    assert after["kernels"] - before["kernels"] <= 2 * 3
    assert multiprocessing.active_children() == []  # nobody else is needed
    assert sorted(itertools.chain(*(part.tolist() for part in labels))) == list(range(10))
    for part, label in zip(rows, labels):
        np.testing.assert_array_equal(part.numpy()[:, 0], 2 * label.numpy())
    assert after["scheduled"] == before["scheduled"]  # positions are data: the second epoch plans nothing


def test_parts_of_tensors_and_single_tensors(device):
    train, test = random_split(TensorDataset(Tensor.arange(10)), [7, 3])
    seen = [items(DataLoader(Subset(part, range(len(part))), 2)) for part in (train, test)]
    assert [len(part) for part in seen] == [7, 3]
    assert sorted(seen[0] + seen[1]) == list(range(10))
    assert seen[0] == train.indices.tolist()
    for dataset in (Tensor([5, 6, 7]), np.array([5, 6, 7])):
        assert firsts(DataLoader(dataset, 2)) == [[5, 6], [7]]


def test_batches_carry_no_gradient_to_the_dataset():
    x, weight = Tensor([1.0, 2.0], requires_grad=True), Tensor(3.0, requires_grad=True)
    ((batch,),) = DataLoader(TensorDataset(x), 2)
    (batch * weight).sum().backward()
    assert x.grad is None
    assert weight.grad.item() == 3


def test_batches_go_where_they_are_told(side_by_side):
    here, there = side_by_side[0], side_by_side[-1]
    dataset = TensorDataset(Tensor([1, 2], device=there))
    assert next(iter(DataLoader(dataset)))[0].device == there
    assert next(iter(DataLoader(dataset, device=here)))[0].device == here
    assert next(iter(DataLoader([1, 2], device=there))).device == there


def test_batches_of_a_loader_feed_a_captured_function(device):
    step = jit(lambda x, y: (x * y).sum().realize())
    data = TensorDataset(Tensor.arange(8), Tensor.arange(8))
    for loader in (DataLoader(data, 2), DataLoader([(i, i) for i in range(8)], 2)):
        assert [step(*batch).item() for batch in loader] == [1, 4 + 9, 16 + 25, 36 + 49]


# ---- workers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", WORKERS, ids=NAMES)
def test_whoever_loads_them_batches_are_the_same(options):
    loader = DataLoader(Squares(11), 2, shuffle=True, seed=5, **options)
    alone = DataLoader(Squares(11), 2, shuffle=True, seed=5)
    for _ in range(2):
        for (index, squares), expected in zip(loader, alone, strict=True):
            assert index.tolist() == expected[0].tolist()
            np.testing.assert_array_equal(squares.numpy(), np.repeat(index.numpy() ** 2, 2).reshape(-1, 2))
    loader.close()


def test_processes_and_threads_share_the_work_and_stay_for_the_next_epoch():
    loader = DataLoader(WhoLoads(8), num_workers=2)
    processes = [{batch[0].item() for batch in loader} for _ in range(2)]
    assert processes[0] == processes[1]
    assert len(processes[0] - {os.getpid()}) == 2
    threads = {batch[1].item() for batch in DataLoader(WhoLoads(8), num_workers=2, worker_type="thread")}
    assert threading.get_ident() not in threads


def test_random_items_depend_on_the_batch_alone():
    epochs = []
    for count in (1, 2):
        loader = DataLoader(Noise(6), 2, seed=3, num_workers=count)
        epochs.append([[part.tolist() for batch in loader for part in batch] for _ in range(2)])
        loader.close()
    assert epochs[0] == epochs[1]
    assert len({number for epoch in epochs[0] for part in epoch for number in part}) == 2 * 6 * 3


@pytest.mark.parametrize("options", WORKERS, ids=NAMES)
def test_an_error_of_the_dataset_is_raised_in_the_loop(options):
    loader = DataLoader(Picky(), 2, **options)
    seen = []
    with pytest.raises(LookupError, match="item 5 is bad") as caught:
        seen.extend(batch.tolist() for batch in loader)
    assert seen == [[0, 1], [2, 3]]
    assert multiprocessing.active_children() == []
    if options == WORKERS[1]:
        (note,) = caught.value.__notes__
        assert note.startswith("in worker 0 of the DataLoader, for batch 2:")
        assert "in __getitem__" in note
        assert 'raise LookupError(f"item {index} is bad")' in note


def test_an_error_that_cannot_travel_is_told():
    with pytest.raises(RuntimeError, match="Unpicklable: 1 2") as caught:
        next(iter(DataLoader(Strange(), num_workers=1)))
    assert "raise Unpicklable(1, 2)" in caught.value.__notes__[0]


def test_a_process_that_dies_is_named():
    loader = DataLoader(Dying(), num_workers=2)
    with pytest.raises(WorkerDied, match=r"from worker 1, got the end of its process, exit code -9"):
        list(loader)
    assert multiprocessing.active_children() == []


def test_a_dataset_that_cannot_be_sent():
    with pytest.raises((pickle.PicklingError, AttributeError)) as caught:
        list(DataLoader([1, 2], num_workers=1, collate_fn=lambda items: items))
    assert "worker_type='thread'" in caught.value.__notes__[0]
    with pytest.raises(AttributeError, match="not here") as caught:
        list(DataLoader(Refusing(), num_workers=1))
    assert "have to be importable" in caught.value.__notes__[0]
    assert multiprocessing.active_children() == []


def test_a_loop_left_early_leaves_no_process():
    loader = DataLoader(Slow(), num_workers=2)
    for batch in loader:
        assert batch.tolist() == [0]
        assert len(multiprocessing.active_children()) == 2
        break
    assert multiprocessing.active_children() == []


def test_a_loader_that_is_gone_leaves_no_process():
    loader = DataLoader(Squares(), num_workers=2)
    list(loader)
    assert len(multiprocessing.active_children()) == 2
    del loader
    gc.collect()
    assert multiprocessing.active_children() == []


def test_tensors_pass_from_process_to_process(device):
    loader = DataLoader(Rows(Tensor([[1.0, 2], [3, 4], [5, 6]]).half()), 2, num_workers=1)
    batches = list(loader)
    loader.close()
    assert [(batch.tolist(), batch.dtype.name, batch.device) for batch in batches] == [
        ([[1, 2], [3, 4]], "float16", device), ([[5, 6]], "float16", device)
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_leaves_the_processes_to_their_owner():
    loader = DataLoader(Squares(4), num_workers=1)
    expected = firsts(loader)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(firsts(loader) != expected)  # by processes of its own
            loader.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    before = multiprocessing.active_children()
    assert firsts(loader) == expected
    assert multiprocessing.active_children() == before != []
    loader.close()


PROGRAM = """
import os, sys, time, multiprocessing
from pluggrad.data import DataLoader

class Dataset:
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        time.sleep(0.05)
        return index

def main():
    for number, batch in enumerate(DataLoader(Dataset(), num_workers=2)):
        if number == 2:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        if number > 2 and "end" in sys.argv:
            break

if __name__ == "__main__":
    main()
"""


def gone(pid: int) -> bool:
    """The process has ended, whoever is to collect it."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at /proc")
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None])
def test_no_process_outlives_a_program(tmp_path, way):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    command = [sys.executable, str(file), *(() if way else ("end",))]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert len(pids) == 2
    if way is signal.SIGINT:
        os.killpg(program.pid, way)  # as a terminal does, to all of them
    elif way is not None:
        program.send_signal(way)
    _, errors = program.communicate(timeout=300)
    assert program.returncode == -(way or 0)
    assert all(gone(pid) for pid in pids)
    if way is signal.SIGINT:
        assert errors.count("Traceback") == 1  # the program's own: processes do not see Ctrl-C
        assert errors.rstrip().endswith("KeyboardInterrupt")


def test_a_program_without_a_guard_is_told(tmp_path):
    file = tmp_path / "program.py"
    file.write_text("from pluggrad.data import DataLoader\nlist(DataLoader(range(4), num_workers=1))\n")
    result = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "WorkerDied" in result.stderr
    assert "if __name__ == '__main__'" in result.stderr


# ---- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "stop"),
    [*(({}, stop) for stop in [(0, 0), (0, 2), (1, 1), (1, 4)]),
     *((options, (1, 1)) for options in WORKERS[1:])],
)
def test_a_resumed_run_sees_the_same_batches(options, stop):
    def loader(seed):
        return DataLoader(Squares(10), 3, shuffle=True, seed=seed, **options)

    whole = loader(4)
    expected = [firsts(whole) for _ in range(3)]
    first, seen, state = loader(4), [], loader(4).state_dict()
    for _ in range(stop[0]):
        seen.append(firsts(first))
        state = first.state_dict()
    for number, batch in enumerate(first if stop[1] else ()):
        seen.append(batch[0].tolist())
        if number + 1 == stop[1]:
            state = first.state_dict()
            break
    resumed = loader(99)
    resumed.load_state_dict(json.loads(json.dumps(state)))
    assert resumed.epoch == stop[0]
    assert firsts(resumed) == expected[stop[0]][stop[1] :]
    assert firsts(resumed) == expected[stop[0] + 1]


@pytest.mark.parametrize(
    ("other", "message"),
    [(DataLoader(Squares(9), 3), "items 10, here 9"), (DataLoader(Squares(10), 2), "batch_size 3, here 2"),
     (DataLoader(Squares(10), 3, shuffle=True), "shuffle 0, here 1"),
     (DataLoader(Squares(10), 3, drop_last=True), "drop_last 0, here 1")],
)
def test_a_state_of_another_loader_is_refused(other, message):
    with pytest.raises(StateError, match=message):
        other.load_state_dict(DataLoader(Squares(10), 3).state_dict())
    with pytest.raises(StateError):
        other.load_state_dict({})
    assert other.epoch == 0


# ---- iterables, bars, bad input, memory ----------------------------------------------------------


class Stream:
    def __iter__(self):
        return iter(range(7))


def test_a_stream_is_read_in_its_order():
    loader = DataLoader(Stream(), 3)
    assert [firsts(loader) for _ in range(2)] == [[[0, 1, 2], [3, 4, 5], [6]]] * 2
    assert firsts(DataLoader(Stream(), 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]
    next(iter(loader))
    resumed = DataLoader(Stream(), 3)
    resumed.load_state_dict(loader.state_dict())
    assert firsts(resumed) == [[3, 4, 5], [6]]
    with pytest.raises(TypeError):
        len(loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"num_workers": -1}, "num_workers of at least 0, got -1"),
        ({"prefetch_factor": 0}, "prefetch_factor of at least 1"),
        ({"worker_type": "fork"}, "worker_type 'process' or 'thread', got 'fork'"),
        ({"dataset": Stream(), "shuffle": True}, "one with __iter__, Stream"),
        ({"dataset": Stream(), "num_workers": 1}, "one with __iter__, Stream"),
        ({"dataset": 3}, "__getitem__ and __len__, or __iter__, got int"),
    ],
)
def test_what_a_loader_refuses(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        DataLoader(**{"dataset": Squares(), **options})


def test_a_bar_in_a_terminal_only(capsys):
    list(DataLoader(Squares(), progress="reading"))
    assert capsys.readouterr() == ("", "")


def test_a_bar(monkeypatch):
    import tqdm.auto

    bars = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **{**options, "disable": False})
            bars.append(self)

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    loader = DataLoader(Squares(), 3, progress="reading")
    for _ in loader:
        break
    list(loader)
    assert [(bar.desc, bar.total, bar.n) for bar in bars] == [("reading", 4, 1), ("reading", 4, 4)]


def test_a_bar_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'pluggrad\[progress\]'"):
        list(DataLoader(Squares(), progress=True))
    assert len(list(DataLoader(Squares()))) == 10


@pytest.mark.parametrize("dataset", [Squares(6), TensorDataset(Tensor.arange(6))], ids=["items", "tensors"])
def test_memory_does_not_grow_with_epochs(dataset):
    loader = DataLoader(dataset, 2, shuffle=True)

    def in_use() -> tuple[int, int]:
        for _ in range(50):
            for _ in loader:
                pass
        gc.collect()
        return sum(stats["used"] for stats in memory_stats().values()), len(gc.get_objects())

    in_use()
    (bytes_before, objects_before), (bytes_after, objects_after) = in_use(), in_use()
    assert bytes_after == bytes_before
    assert objects_after <= objects_before + 20
