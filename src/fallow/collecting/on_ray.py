"""The survey of a pool by workers of Ray Data: each reads the pool, and decodes and surveys its share."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from ..datasets.pools import fetched_from
from ..errors import FallowError, WrongState, invalid, missing_extra, sentence
from .pool_survey import PoolSurvey, SurveyedPart

_LEAST = 64
"""Samples for which a worker is worth its start."""


def check(pool: str) -> None:
    """Raise if Ray Data is missing, or cannot be used for the pool with a name.

    Raises:
        ModuleNotFoundError: if Ray, or a package that Ray Data needs, is missing.
        InvalidValue: if the pool is not on a disk.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError:  # Ray Data raises it for pyarrow and pandas
        raise missing_extra("--engine ray", "Ray Data", "all,ray") from None
    if fetched_from(pool):
        step = "Save it with its method save_to_disk, and name hf:FOLDER."
        raise invalid("With --engine ray, a pool must be on a disk: every worker reads it.", pool, step)


def parts(survey: PoolSurvey) -> Generator[SurveyedPart]:
    """Yield the surveyed parts of a pool in order, as :meth:`PoolSurvey.parts` does.

    Every worker has its own copy of the network, and as many threads as this process. Worker k of n surveys
    every n-th part from part k on; those that come early wait for their turn.

    Raises:
        FallowError, OSError: the first error of a part, in the order of the pool.
        WrongState: if a worker fails otherwise.
    """
    with _connected():
        from ray import cloudpickle

        waiting: dict[int, bytes] = {}
        turn = 0
        for number, found in _in_any_order(survey):
            waiting[number] = found
            while turn in waiting:
                part = cloudpickle.loads(waiting.pop(turn))
                if isinstance(part, Exception):
                    raise part
                turn += 1
                yield part
        if waiting:
            raise WrongState(
                f"All workers of Ray must read the same pool. Found no part {turn + 1}, and part "
                f"{min(waiting) + 1}. Give every machine the same files."
            )


def _in_any_order(survey: PoolSurvey) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each part, and the part or its error, pickled."""
    import ray
    from ray import cloudpickle

    network = survey.surveyor.monitor.taps.model
    on_gpu = any(weight.is_cuda for weight in network.parameters())
    cpus, count = _workers(on_gpu=on_gpu)
    if survey.pool.total is not None:
        count = min(count, -(-survey.pool.total // _LEAST))
    random = torch.get_rng_state()  # workers begin alike, whichever surveys a part
    work = cloudpickle.dumps((survey, count, torch.get_num_threads(), random, os.getcwd()))
    shares = ray.data.from_items([{"share": k} for k in range(count)], override_num_blocks=count)
    shares.context.enable_progress_bars = False
    shares.context.print_on_execution_start = False
    shares.context.target_max_block_size = 1  # each part is sent at once
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that max_restarts may get another name
            rows = shares.map_batches(
                _Worker,
                # In a list, since Ray may look into arguments that it finds by themselves.
                fn_constructor_args=([ray.put(work)],),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
                num_cpus=cpus,
                num_gpus=1 if on_gpu else None,
                max_restarts=0,  # Ray would start a worker that runs out of memory again and again
            ).iter_rows()
        for row in rows:
            yield row["number"], row["found"]
    except Exception as error:  # Ray raises many kinds
        raise _failure(error) from error


def _workers(*, on_gpu: bool) -> tuple[float, int]:
    """Return the processors of a worker, and the number of workers that the cluster has room for."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if on_gpu:
        count = sum(int(node.get("GPU", 0)) for node in nodes)
        if not count:
            step = "Start Ray on a machine that has one, or leave out --engine ray."
            raise invalid("Ray must have a GPU, as the network is on one.", "none", step)
        return 1, count
    processors = [node.get("CPU", 0.0) for node in nodes]
    # A worker that asks for more than any machine has would wait forever.
    cpus = min(float(torch.get_num_threads()), max(processors, default=0.0))
    if cpus < 1:
        raise invalid("Ray must have a processor.", "none", "Leave out --engine ray.")
    return cpus, sum(int(each // cpus) for each in processors)


def _failure(error: Exception) -> WrongState:
    rule = "Each worker of Ray must survey its share of the pool."
    text = " ".join(f"{type(error).__name__}: {error}".split())
    step = "Without --engine ray the pool is surveyed here."
    return WrongState(sentence(rule, text[:300], step))


@contextmanager
def _connected() -> Iterator[None]:
    """Connect to Ray, unless this process is connected, and leave it as it was."""
    import ray
    import ray.data

    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # its errors are raised
    begun = not ray.is_initialized()
    try:
        if begun:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tips on versions to come
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        if begun:
            ray.shutdown()
        log.setLevel(level)


class _Worker:
    """Surveys shares of a pool in a process of Ray.

    Args:
        work: in a list, a reference to what every worker needs, pickled.
    """

    def __init__(self, work: list[Any]) -> None:
        import ray
        from ray import cloudpickle

        self._survey, self._count, threads, random, folder = cloudpickle.loads(ray.get(work[0]))
        # Sums of floats depend on the number of threads.
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
        with suppress(OSError):  # another machine may not have it
            os.chdir(folder)  # a pool's path may be relative

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        from ray import cloudpickle

        number = int(batch["share"][0])
        parts = self._survey.parts((number, self._count))
        found: SurveyedPart | Exception | None = None
        while not isinstance(found, Exception):
            try:
                found = next(parts, None)
            except (FallowError, OSError) as error:
                found = error
            except Exception as error:  # a network of one's own may raise any kind
                found = _failure(error)
            if found is None:
                return
            yield {"number": [number], "found": [cloudpickle.dumps(found)]}
            number += self._count
