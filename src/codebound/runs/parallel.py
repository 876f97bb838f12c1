"""Run the cells of a study: here, in processes, or on a cluster that joblib's backends reach."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal, TypeVar, get_args

from joblib import Parallel, delayed, parallel_config

from codebound.errors import InputError
from codebound.runs.folder import RunFolder

Backend = Literal["loky", "dask", "ray"]
_NEEDS = {"loky": "joblib", "dask": "distributed", "ray": "ray"}
_INSTALL = {"dask": "dask[distributed]", "ray": "ray"}
T = TypeVar("T")


def check(jobs: int, backend: str = "loky") -> None:
    """Refuse what can't be run, before anything is written.

    Raises:
        InputError: no such number of processes, an unknown backend, or one that is not installed.
    """
    if jobs == 0 or jobs < -1:
        raise InputError(f"jobs must be 1 or more, or −1 for one per core; got {jobs}")
    if backend not in get_args(Backend):
        raise InputError(f"backend is {backend!r}; accepted: {', '.join(get_args(Backend))}")
    if find_spec(_NEEDS[backend]) is None:
        raise InputError(
            f"--backend {backend} needs the package {_NEEDS[backend]}, which is not installed: "
            f"pip install '{_INSTALL[backend]}'; --backend loky is always there"
        )


def each(
    work: Callable[[T], None], items: Sequence[T], *, jobs: int = 1, backend: Backend = "loky"
) -> Iterator[None]:
    """`work` on every item, in any order; yields once for each that is finished.

    Args:
        jobs: processes; −1: one per core. With one job, or one item, `loky` works in this process.
        backend: `dask` connects to the cluster that the environment names (DASK_SCHEDULER_ADDRESS) or starts a local
            one; `ray` to that of RAY_ADDRESS, or a local one. The run folder must be reachable from all workers.
    """
    if backend == "loky" and (jobs == 1 or len(items) <= 1):
        for item in items:
            work(item)
            yield
        return
    if backend == "ray":
        yield from _on_ray(work, items, jobs)
        return
    # dask has no unordered generator: its results come in order.
    how = "generator_unordered" if backend == "loky" else "generator"
    with _cluster(backend, jobs):
        yield from Parallel(n_jobs=jobs, return_as=how, backend=_name(backend))(
            delayed(work)(item) for item in items
        )


def finish(
    folder: RunFolder[Any],
    cells: Sequence[T],
    work: Callable[[T], None],
    *,
    name: Callable[[T], str],
    jobs: int,
    backend: Backend,
    progress: Callable[[int, int], None],
    alone: Callable[[T], bool] = lambda cell: False,
) -> None:
    """`work` on the cells that the folder does not hold yet.

    Args:
        name: of a cell's file.
        progress: called with (finished, all) cells, at first and after each.
        alone: cells that nothing else of ours may run beside; they come last, in this process.
    """
    # What is finished stays; the caller hears at once how much that is.
    missing = [cell for cell in cells if not folder.finished(name(cell))]
    done = len(cells) - len(missing)
    progress(done, len(cells))

    # Cells that time something run alone, after all others.
    together = [cell for cell in missing if not alone(cell)]
    single = [cell for cell in missing if alone(cell)]
    for group in (
        each(work, together, jobs=jobs, backend=backend) if together else (),
        each(work, single) if single else (),
    ):
        for _ in group:
            done += 1
            progress(done, len(cells))


def _name(backend: Backend) -> str | None:
    """None: the one that `_cluster` has set."""
    return "loky" if backend == "loky" else None


@contextmanager
def _cluster(backend: Backend, jobs: int) -> Iterator[Any]:
    """joblib's backend connected to its workers for as long as the block lasts."""
    if backend == "loky":
        yield
    else:
        import distributed  # pyright: ignore[reportMissingImports]

        # The cluster that the environment names, or a local one of one thread a process.
        address = distributed.config.get("scheduler-address", None)  # pyright: ignore
        local = {} if address else {"n_workers": None if jobs < 0 else jobs, "threads_per_worker": 1}
        with (
            distributed.Client(address, set_as_default=True, **local) as client,  # pyright: ignore
            parallel_config("dask", client=client, wait_for_workers_timeout=60),
        ):
            yield


def _on_ray(work: Callable[[T], None], items: Sequence[T], jobs: int) -> Iterator[None]:
    """By ray's own tasks, as joblib's backend for it says nothing until all are finished."""
    import ray  # pyright: ignore[reportMissingImports]

    # The cluster that is connected to, or the environment's, or a local one; only what began here ends here.
    began = not ray.is_initialized()
    if began:
        ray.init(log_to_driver=False, num_cpus=None if "RAY_ADDRESS" in os.environ or jobs < 0 else jobs)
    pending: list[Any] = []
    try:
        task = ray.remote(_work_on)
        pending += (task.remote(work, item) for item in items)
        while pending:
            finished, pending = ray.wait(pending)
            ray.get(finished)
            yield
    finally:
        # After an error or Ctrl-C nothing of ours goes on in a cluster that stays.
        for unfinished in pending:
            ray.cancel(unfinished)
        if began:
            ray.shutdown()


def _work_on(work: Callable[[T], None], item: T) -> None:
    """What a worker is sent: a function of the package's, whatever `work` is."""
    work(item)
