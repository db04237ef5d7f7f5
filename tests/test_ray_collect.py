"""``fallow collect --engine ray``: the list of one process, from workers that share a pool."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import ray
import torch
from PIL import Image
from sklearn.datasets import load_digits

import fallow
from fallow.cli.main import main
from fallow.collecting import on_ray
from fallow.collecting.pool_survey import PoolSurvey
from fallow.collecting.survey_run import SurveyedRun
from fallow.datasets import load_images
from fallow.datasets.pools import open_pool
from fallow.errors import DamagedData, InvalidValue, WrongState
from fallow.tasks.console import Console

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on digits, and pools of several parts: tables, files, an archive."""
    folder = tmp_path_factory.mktemp("ray")
    digits = load_digits()
    images, classes = (digits.images / 16 * 255).round().astype(np.uint8), digits.target % 2
    train = digits.target[:700] != 0
    np.savez(folder / "data.npz", x_train=images[:700][train], y_train=classes[:700][train],
             x_test=images[700:800], y_test=classes[700:800])  # fmt: skip
    offered, labels = images[800:], classes[800:]
    np.savez_compressed(folder / "pool.npz", x=offered, y=labels)
    for name in ("tables", "images"):
        (folder / name).mkdir()
    for start in range(0, 900, 300):
        rows = slice(start, start + 300)
        table = arrow.table({"x": offered[rows].tolist(), "y": labels[rows]})
        parquet.write_table(table, folder / "tables" / f"{start}.parquet", row_group_size=130)
    for place, image in enumerate(offered[:600]):
        Image.fromarray(image).save(folder / "images" / f"{place:03d}.png")
    (folder / "images" / "250.png").write_bytes(b"no image")
    arguments = ["--data", str(folder / "data.npz"), "--epochs", "2", "--seed", "1"]
    assert main(["train", *arguments, "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture(scope="module")
def cluster():
    """Two workers of Ray, for tests that need no cluster of their own."""
    path = os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": {"PYTHONPATH": path}}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()
    torch.set_num_threads(threads)


def lists(made, tmp_path, pool, count=40):
    """Return the list and the page of each engine."""
    found = {}
    for engine in ("local", "ray"):
        out = tmp_path / engine / "picks.csv"
        out.parent.mkdir()
        collected = fallow.collect(made / "run", pool, count, out=out, engine=engine)
        found[engine] = out.read_bytes(), out.with_suffix(".html").read_bytes(), collected
    return found["local"], found["ray"]


@pytest.mark.parametrize("pool", ["tables", pytest.param("images", marks=pytest.mark.slow)])
def test_the_list_is_that_of_one_process(made, cluster, tmp_path, monkeypatch, pool):
    monkeypatch.chdir(made)  # a relative path means the same to a worker
    (local, page, here), (theirs, their_page, there) = lists(made, tmp_path, pool)
    assert local == theirs
    assert page == their_page
    assert local.count(b"\n") > 40
    assert here.to_list() == there.to_list()
    for name in ("seen", "looked_at", "junk", "alike", "gaps", "unreadable"):
        assert getattr(here, name) == getattr(there, name)
    assert (there.unreadable == 1) == (pool == "images")
    assert ray.is_initialized()


@pytest.mark.parametrize("pool", ["tables", "images", "pool.npz", "digits"])
def test_shares_are_the_parts_of_the_pool(made, pool):
    data = load_images(str(made / "data.npz"))
    opened = open_pool(pool if pool == "digits" else made / pool, data.train, data.classes)
    every = list(opened.parts())
    assert len(every) > 1
    for count in (2, 3):
        shares = [list(opened.parts(share=(k, count))) for k in range(count)]
        assert [len(share) for share in shares] == [len(every[k::count]) for k in range(count)]
        for k, share in enumerate(shares):
            for one, same in zip(share, every[k::count], strict=True):
                assert one.index.tolist() == same.index.tolist()
                assert torch.equal(one.images, same.images)


def test_what_is_damaged_is_told_as_by_one_process(made, cluster, tmp_path):
    pool = shutil.copytree(made / "tables", tmp_path / "tables")
    file = pool / "600.parquet"
    data = bytearray(file.read_bytes())
    data[200:400] = bytes(200)
    file.write_bytes(data)
    errors = []
    for engine in ("local", "ray"):
        with pytest.raises(DamagedData) as error:
            fallow.collect(made / "run", pool, 9, out=tmp_path / "picks.csv", engine=engine)
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert "600.parquet" in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"), [("raise ValueError('seven')", "ValueError: seven"), ("os._exit(1)", "ActorDiedError")]
)
def test_a_worker_that_fails_is_told(made, cluster, fault, said):
    run = SurveyedRun.of(made / "run", Console.nowhere())
    pool = open_pool(made / "tables", run.data.train, run.data.classes)
    names = {"os": os}
    exec(f"def prepare(images): {fault}", names)  # of no module, so that it travels by value
    survey = PoolSurvey(pool, run.surveyor, names["prepare"])
    with pytest.raises(WrongState, match=rf"Each worker of Ray must survey its share.*{said}"):
        list(on_ray.parts(survey))


class ShorterOnOneMachine(PoolSurvey):
    """A survey whose first worker finds nothing."""

    def parts(self, share=(0, 1)):
        found = super().parts(share)
        return iter(()) if share[0] == 0 else found


@pytest.mark.slow
def test_workers_that_read_different_pools_are_told(made, cluster):
    run = SurveyedRun.of(made / "run", Console.nowhere())
    pool = open_pool(made / "tables", run.data.train, run.data.classes)
    survey = ShorterOnOneMachine(pool, run.surveyor, run.prepare)
    with pytest.raises(WrongState, match=r"must read the same pool\. Found no part 1, and part 2\."):
        list(on_ray.parts(survey))


@pytest.mark.slow
def test_a_command_starts_ray_for_itself_and_says_no_more(made, tmp_path):
    said = []
    for engine in ("local", "ray"):
        words = ["collect", made / "run", "--pool", made / "tables", "--count", "20", "--json"]
        words += ["--out", tmp_path / f"{engine}.csv", "--engine", engine]
        command = [sys.executable, "-m", "fallow", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        said.append((done.stdout, done.stderr))
    assert said[0] == said[1]
    assert said[0][0].count('"index"') == 20
    assert (tmp_path / "local.csv").read_bytes() == (tmp_path / "ray.csv").read_bytes()


def test_without_ray_nothing_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    words = ["collect", str(tmp_path / "none"), "--pool", "none", "--count", "5", "--engine", "ray"]
    assert main(words) == 2
    assert '--engine ray needs Ray Data. Run `pip install "fallow[all,ray]"`.' in capsys.readouterr().err


def test_what_ray_cannot_do_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InvalidValue, match=r"a pool must be on a disk.* Found hf:owner/name\."):
        fallow.collect(tmp_path / "none", "hf:owner/name", 5, engine="ray")
    with pytest.raises(InvalidValue, match=r"Unknown engine\. Found 'rya'\. Did you mean 'ray'\?"):
        fallow.collect(tmp_path / "none", "digits", 5, engine="rya")
