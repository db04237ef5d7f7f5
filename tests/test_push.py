"""``fallow push`` to a real server: whole files, once, over a line that breaks; and no way in for others."""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from breaking import BreakingLine
from fallow.cli.main import main
from fallow.cli.push_command import LINK
from fallow.errors import InvalidValue
from fallow.pushing.link import parse_link
from fallow.runs.heartbeat import doing
from fallow.runs.listing import list_runs
from fallow.runs.pushed import NAME, QUIET, is_fixed, may_hold
from fallow.runs.run_files import RunFiles
from fallow.runs.verify import verify
from fallow.serve.guard import LARGEST_PIECE
from killing import left
from serving import SECONDS, serving, without_places

RUNS = Path(__file__).parent / "runs"
TRAIN = ["train", "--data", "digits", "--samples", "1200", "--epochs", "5", "--accelerator", "cpu", "--quiet"]
MADE = ("SHA256SUMS", "state", NAME)
"""What is not the same on both sides: a run that is pushed has a small state, and what names its checksum."""


def command(*words):
    return [sys.executable, "-m", "fallow", *map(str, words)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A training that nobody pushes."""
    out = tmp_path_factory.mktemp("alone") / "run"
    subprocess.run(command(*TRAIN, "--out", out), check=True, timeout=300)
    return out


@pytest.fixture
def received(tmp_path):
    """An empty folder that a server receives into."""
    folder = tmp_path / "received"
    folder.mkdir()
    return folder


@pytest.fixture
def server(received):
    with serving(received, "--receive", "--write") as found:
        yield found


def files(run):
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def same(run):
    """Return the files that are byte for byte the same on both sides."""
    return {name: data for name, data in files(run).items() if not name.startswith(MADE) and may_hold(name)}


def check_pushed(run, copy):
    """Check that a run was pushed whole, and that nothing else is there."""
    there = files(copy)
    assert same(run) == {name: data for name, data in there.items() if not name.startswith(MADE)}
    assert len([name for name in there if is_fixed(name)]) == len(
        [name for name in files(run) if is_fixed(name)]
    )
    assert len([name for name in there if name.startswith("state/")]) in (2, 4)
    own = copy.parent / ".fallow-push"
    assert not list((own / "part").iterdir())
    assert not list((own / "new").iterdir())
    for line in (copy / "SHA256SUMS").read_text().splitlines():
        digits, _, name = line.partition("  ")
        assert hashlib.sha256(there[name]).hexdigest() == digits
    assert "model.safetensors" not in there


def test_a_training_is_pushed_over_a_line_that_breaks_20_times(alone, server, tmp_path, capfd):
    run = tmp_path / "run"
    line = BreakingLine(server.port, 20, 20_000, seed=7)
    with subprocess.Popen(command(*TRAIN, "--out", run)) as training:
        while not (run / "lock").exists():
            assert training.poll() is None
            time.sleep(0.01)
        link = server.pushing.replace(f":{server.port}/", f":{line.port}/")
        pushed = subprocess.run(
            command("push", run, "--json"),
            env={**os.environ, LINK: link},
            stdout=subprocess.PIPE,
            timeout=200,
        )
        assert training.wait(SECONDS) == 0
    line.close()
    assert line.broken >= 20
    told = json.loads(pushed.stdout)
    assert (pushed.returncode, told["runs"][0]["state"]) == (0, "finished")
    assert told["breaks"] >= 20
    check_pushed(run, server.folder / "run")
    assert left(run) == left(alone)
    assert server.told("api/runs")["runs"][0]["state"] == "finished"


def test_a_pushed_run_is_read_as_the_run_itself(alone, server, capsys):
    assert main(["push", str(alone), server.pushing]) == 0
    copy = server.folder / "run"
    check_pushed(alone, copy)
    here, there = RunFiles(alone), RunFiles(copy)
    assert here.reached
    assert there.reached == here.reached
    assert (there.predicted == here.predicted).all()
    assert [record.backward for record in there.history] == [record.backward for record in here.history]
    (copy / "summary.json").unlink()  # as while it trains: then only the small state knows
    again = RunFiles(copy)
    assert [row.accuracy for row in again.reached] == [row.accuracy for row in here.reached]
    shutil.copyfile(alone / "summary.json", copy / "summary.json")
    assert main(["verify", str(copy)]) == 0
    assert main(["report", str(copy)]) == 0
    run = server.told("api/runs")["runs"][0]["id"]
    health = server.told(f"api/health?run={run}&verify=1")["run"]
    assert (health["verified"]["sound"], health["verified"]["complete"], health["problems"]) == (
        True,
        True,
        [],
    )
    size = sum(path.stat().st_size for path in (copy / "state").glob("*.safetensors"))
    assert size < next((alone / "state").glob("*.safetensors")).stat().st_size / 2
    capsys.readouterr()
    assert main(["train", "--resume", str(copy)]) == 2
    assert "Resume it on the machine that it was pushed from." in capsys.readouterr().err


def test_the_same_command_again_sends_nothing_new(alone, server, capsys):
    assert main(["push", str(alone), server.pushing]) == 0
    copy = server.folder / "run"
    before = {path: path.stat().st_ino for path in copy.rglob("*") if path.name != NAME}
    assert main(["push", str(alone), server.pushing]) == 0
    assert before == {path: path.stat().st_ino for path in copy.rglob("*") if path.name != NAME}
    assert "as run" in capsys.readouterr().out


def test_a_run_that_goes_on_is_pushed_on(server, tmp_path):
    run = tmp_path / "run"
    words = [*TRAIN, "--samples", "300"]
    assert main([*words, "--out", str(run)]) == 0
    assert main(["push", str(run), server.pushing]) == 0
    copy = server.folder / "run"
    assert main(["train", "--resume", str(run), "--epochs", "7", "--accept", "epochs"]) == 0
    assert main(["push", str(run), server.pushing]) == 0
    check_pushed(run, copy)
    assert len(RunFiles(copy).history) == 7
    assert main(["verify", str(copy)]) == 0


def test_checksums_are_gone_while_files_change(server):
    assert main(["push", str(RUNS / "finished"), server.pushing]) == 0
    copy = server.folder / "finished"
    data = (copy / "summary.json").read_bytes() + b" "
    told = json.loads((copy / NAME).read_text())
    assert put(server.pushing, about(data, "summary.json", "finished", id=told["id"]), data).json()["whole"]
    assert (copy / "summary.json").read_bytes() == data
    assert not (copy / "SHA256SUMS").exists()
    assert list_runs(server.folder)[0].state == "finished"


def test_runs_of_one_name_are_kept_apart(alone, server, tmp_path):
    shutil.copytree(alone, tmp_path / "other" / "run")
    for run in (alone, tmp_path / "other" / "run", alone):
        assert main(["push", str(run), server.pushing]) == 0
    names = sorted(path.name for path in server.folder.iterdir() if path.name != ".fallow-push")
    assert len(names) == 2
    assert names[0] == "run"
    assert names[1].startswith("run-")
    for name in names:
        check_pushed(alone, server.folder / name)
    assert len({json.loads((server.folder / name / NAME).read_text())["id"] for name in names}) == 2


def test_a_folder_of_runs_is_pushed(server):
    assert main(["push", str(RUNS), server.pushing]) == 0
    assert {run["name"]: run["state"] for run in server.told("api/runs")["runs"]} == {
        "finished": "finished",
        "stopped": "stopped",
    }
    assert {run.name for run in list_runs(server.folder)} == {"finished", "stopped"}


def test_links_to_runs_are_named_once_and_not_pushed(server, tmp_path, capsys):
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copytree(RUNS / "stopped", folder / "one")
    (folder / "link").symlink_to(RUNS / "finished")
    assert main(["push", str(folder), server.pushing]) == 0
    said = capsys.readouterr().err
    assert said.count(f"{folder}/link: a link, which is not followed.") == 1
    assert f"fallow push {folder}/link." in said
    assert [run["name"] for run in server.told("api/runs")["runs"]] == ["one"]


def test_a_run_of_this_machine_is_never_written_to(server, alone):
    own = server.folder / "run"
    shutil.copytree(RUNS / "finished", own)
    before = files(own)
    assert main(["push", str(alone), server.pushing]) == 0
    assert files(own) == before
    (beside,) = server.folder.glob("run-*")
    check_pushed(alone, beside)


def test_an_epoch_that_was_trained_again_is_refused(server, alone, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(alone, run)
    assert main(["push", str(run), server.pushing]) == 0
    before = files(server.folder / "run")
    path = server.folder / "run" / "history" / "epoch-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # another one than here
    assert main(["push", str(run), server.pushing]) == 1
    assert "--name" in capsys.readouterr().out
    assert files(server.folder / "run").keys() == before.keys()
    assert main(["push", str(run), server.pushing, "--name", "second"]) == 0
    check_pushed(run, server.folder / "second")


def test_damage_is_named_and_the_rest_is_pushed(server, alone, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(alone, run)
    path = run / "history" / "epoch-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (run / "environment.json").unlink()
    (run / "environment.json").symlink_to("/etc/hostname")
    assert main(["push", str(run), server.pushing]) == 3
    said = capsys.readouterr().out
    assert "epoch-00001.safetensors must be unchanged" in said
    assert "environment.json must be a regular file" in said
    there = files(server.folder / "run")
    assert "history/epoch-00001.safetensors" not in there
    assert "environment.json" not in there
    assert len([name for name in there if is_fixed(name)]) == 5


@contextlib.contextmanager
def killed_later(folder, port):
    """Serve at a port, and kill the server at the end."""
    words = command("serve", folder, "--receive", "--port", port)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            process.stderr.readline()
            yield process.stderr.readline().strip()
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_server_that_is_killed_goes_on_where_it_was(alone, received, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = alone / "data.safetensors"
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    with killed_later(received, port) as link:
        size = len(data.read_bytes())
        about = {"run": "run", "id": "0" * 32, "file": "data.safetensors", "size": size, "sha256": digest}
        half = data.read_bytes()[: size // 2]
        assert put(link, about, half).json() == {"have": size // 2, "whole": False}
    (part,) = (received / ".fallow-push" / "part").iterdir()
    assert part.read_bytes() == half
    assert list_runs(received) == []
    pusher = subprocess.Popen(command("push", alone, link), stderr=subprocess.PIPE, text=True)
    with killed_later(received, port) as again:
        assert again == link  # so that a client goes on
        assert put(link, about, b"").json() == {"have": size // 2, "whole": False}
        assert put(link, about | {"offset": size // 2}, data.read_bytes()[size // 2 :]).json()["whole"]
        assert pusher.wait(SECONDS) == 0, pusher.stderr.read()
        pusher.stderr.close()
    with serving(received) as server:
        assert server.told("api/runs")["runs"][0]["state"] == "finished"


def test_no_run_is_ever_half_there_while_the_server_is_killed(received, tmp_path):
    for number in range(10):
        shutil.copytree(RUNS / "finished", tmp_path / "runs" / f"run-{number}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.ExitStack() as stack:
        pusher = None
        for kills in range(5):
            with killed_later(received, port) as link:
                if pusher is None:
                    words = command("push", tmp_path / "runs", link)
                    pusher = stack.enter_context(subprocess.Popen(words))
                    stack.callback(pusher.kill)
                while len(list(received.glob("run-*/state/*.json"))) < 2 * kills + 1:
                    assert pusher.poll() is None
            # Any instant may have been the last.
            for run in list_runs(received):
                assert run.state == "finished", run.damage
                assert not verify(RunFiles(run.path)).damaged
        with killed_later(received, port):
            assert pusher.wait(SECONDS) == 0
    for number in range(10):
        check_pushed(RUNS / "finished", received / f"run-{number}")


def put(link, about, body=b"", token=None, **headers):
    found = parse_link(link)
    headers = {
        "Authorization": f"Bearer {found.token if token is None else token}",
        "Content-Type": "application/octet-stream",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    with httpx.Client(trust_env=False, timeout=SECONDS) as client:
        return client.put(f"http://{found.place}/api/push", params=about, content=body, headers=headers)


def about(data, file="config.yaml", run="a", **more):
    digest = hashlib.sha256(data).hexdigest()
    return {"run": run, "id": "1" * 32, "file": file, "size": len(data), "sha256": digest} | more


FILES = """
../canary ../../canary history/../../canary /etc/passwd history//epoch-00000.safetensors ./config.yaml config.yaml/
model.safetensors lock pushed.json ticks.jsonl .fallow-push/token history/epoch-0.safetensors logs/x report.html CON
history/epoch-00000.json state/1.json state/000001.json.json state/../config.yaml HISTORY/shown.safetensors picks-1.csv
config.yaml%00 history\\epoch-00000.safetensors state/000001.safetensors/x \u0660onfig.yaml config.yaml\u200b
""".split()
NAMES = [
    "..", ".", "", "a/b", "../a", ".hidden", "a" * 81, "a\n", "\xe4", "-a", "a.", "a b", "history", "state", "lock",
    "a\\b", "a\0",
]  # fmt: skip


def test_no_file_but_those_of_a_run_is_taken(server, tmp_path):
    (tmp_path / "canary").write_text("canary")
    for name in [*FILES, "config.yaml\n", "config.yaml\0", "", "a" * 65]:
        found = put(server.pushing, about(b"x", name), b"x")
        assert found.status_code == 400, name
        without_places(server, found.content)
    for name in NAMES:
        found = put(server.pushing, about(b"x", run=name), b"x")
        assert found.status_code == 400, name
        without_places(server, found.content)
    for wrong in ({"size": 0}, {"size": -1}, {"size": 1 << 40}, {"offset": -1}, {"sha256": "0" * 63}, {"id": "x"},
                  {"id": "../" * 10}, {"more": 1}, {"size": "x"}):  # fmt: skip
        assert put(server.pushing, about(b"x") | wrong, b"x").status_code == 400, wrong
    assert put(server.pushing, about(b"x") | {"size": 1 << 30}, b"x").status_code == 413  # a text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "received"]
    assert [path.name for path in server.folder.iterdir()] == [".fallow-push"]


def test_a_file_must_be_what_was_said(server):
    data = os.urandom(9000)
    right = about(data)
    assert put(server.pushing, right | {"sha256": "0" * 64}, data).status_code == 400  # another checksum
    assert put(server.pushing, right, data + b"x").status_code == 400  # too long
    assert put(server.pushing, right, data[:-1]).json() == {"have": 8999, "whole": False}  # too short
    assert put(server.pushing, right | {"offset": 9000}, b"x").json() == {"have": 8999, "whole": False}
    assert put(server.pushing, right | {"offset": 5}, data[5:]).json() == {"have": 8999, "whole": False}
    assert put(server.pushing, right | {"offset": 8999}, b"xx").status_code == 400
    changed = put(server.pushing, right | {"offset": 8999}, bytes([data[-1] ^ 1]))
    assert changed.status_code == 400
    assert "Send it again" in changed.json()["error"]
    assert put(server.pushing, right).json() == {"have": 0, "whole": False}
    assert put(server.pushing, right, data).json() == {"have": 9000, "whole": True}
    assert put(server.pushing, right).json() == {"have": 9000, "whole": True}
    assert put(server.pushing, about(b"other"), b"other").json()["whole"]  # this one may change
    epoch = about(data, "history/epoch-00000.safetensors")
    assert put(server.pushing, epoch, data).json()["whole"]
    other = about(b"other", "history/epoch-00000.safetensors")
    assert put(server.pushing, other, b"other").status_code == 409
    assert put(server.pushing, epoch).json()["whole"]
    big = put(server.pushing, about(b"x" * (LARGEST_PIECE + 1)), b"x" * (LARGEST_PIECE + 1))
    assert big.status_code == 413
    assert server.told("api/runs")["runs"] == []


def test_a_run_is_shown_once_it_is_whole(server, alone):
    manifest = sorted((alone / "state").glob("*.json"))[-1]
    name, data = f"state/{manifest.name}", manifest.read_bytes()
    found = put(server.pushing, about(data, name), data)
    assert (found.status_code, found.json()["code"]) == (409, "early")
    assert put(server.pushing, about(b"{}", name), b"{}").status_code == 400
    traversal = json.dumps(
        {"format": "x", "number": 1, "about": {}, "files": {"../../canary": {"bytes": 1, "sha256": "0" * 64}}}
    )
    assert put(server.pushing, about(traversal.encode(), name), traversal.encode()).status_code == 400
    assert list_runs(server.folder) == []
    assert server.told("api/runs")["runs"] == []


def test_no_other_token_pushes_and_that_of_pushing_does_nothing_else(server):
    data, token = b"x", parse_link(server.pushing).token
    assert put(server.pushing, about(data), data, token=server.token).status_code == 403
    assert put(server.pushing, about(data), data, token=server.writing).status_code == 403
    for wrong in ("x", token[:-1], token + "x", token.swapcase()):
        while (status := put(server.pushing, about(data), data, token=wrong).status_code) == 429:
            time.sleep(0.2)
        assert status == 401
    time.sleep(1.1)
    assert put(server.pushing, about(data), data, Host="evil.example").status_code == 400
    assert put(server.pushing, about(data), data, Origin="http://evil.example").status_code == 403
    assert put(server.pushing, about(data), data, Content_Type="application/json").status_code == 415
    with server.client(token) as client:
        for path in ("api/runs", "api/session", "api/openapi.json", "api/health", "api/push"):
            while (status := client.get(path).status_code) == 429:
                time.sleep(0.2)
            assert status == 401, path
        while (status := client.post("api/session", json={"token": token}).status_code) == 429:
            time.sleep(0.2)
        assert status == 401
    time.sleep(1.1)
    with server.client(None) as client:
        page = {"Origin": server.base[:-1]}
        assert client.post("api/session", json={"token": server.writing}, headers=page).status_code == 200
        cookies = {**page, "Content-Type": "application/octet-stream"}
        assert client.put("api/push", params=about(data), content=data, headers=cookies).status_code == 401
    assert put(server.pushing, about(data), data).status_code == 200
    for path in ("api/runs", "api/tick", "api/session"):
        with server.client(server.writing) as client:
            assert client.put(path, content=b"x").status_code == 405


def test_a_server_that_does_not_receive_takes_nothing(alone, received, capsys):
    with serving(received) as server:
        assert put(f"{server.base}#{server.token}", about(b"x"), b"x").status_code == 403
        assert main(["push", str(alone), f"{server.base}#{server.token}"]) == 2
    assert "--receive" in capsys.readouterr().err
    assert list(received.iterdir()) == []


def test_links_are_not_followed(server, tmp_path):
    outside = tmp_path / "outside"
    (outside / "history").mkdir(parents=True)
    data = b"x" * 10
    assert put(server.pushing, about(data), data).status_code == 200
    (hidden,) = (server.folder / ".fallow-push" / "new").iterdir()
    (hidden / "history").symlink_to(outside / "history")
    found = put(server.pushing, about(data, "history/epoch-00000.safetensors"), data)
    assert found.status_code == 409
    without_places(server, found.content)
    (hidden / "summary.json").symlink_to(outside / "summary.json")
    assert put(server.pushing, about(data, "summary.json"), data).status_code == 409
    # A link in the place of a run: the run gets another name.
    shutil.copyfile(hidden / NAME, outside / NAME)
    (server.folder / "a").symlink_to(outside)
    assert put(server.pushing, about(b"y", "gaps.safetensors"), b"y").status_code == 200
    assert sorted(files(outside)) == [NAME]
    assert (hidden / "gaps.safetensors").read_bytes() == b"y"


def test_a_full_disk_leaves_no_part(server, alone, capsys):
    data = os.urandom(200_000)
    wanted = about(data, "data.safetensors")
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    assert put(server.pushing, wanted, data[:50_000]).json()["have"] == 50_000
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (70_000, hard))
    found = put(server.pushing, wanted | {"offset": 50_000}, data[50_000:])
    assert (found.status_code, found.json()["code"]) == (507, "full")
    assert "EFBIG" in found.json()["error"]
    assert not list((server.folder / ".fallow-push" / "part").iterdir())
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1000, hard))
    assert main(["push", str(alone), server.pushing]) == 1
    assert "no room" in capsys.readouterr().out
    assert server.told("api/runs")["runs"] == []
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    shutil.rmtree(server.folder / ".fallow-push" / "new" / f"a.{'1' * 32}")
    assert main(["push", str(alone), server.pushing]) == 0
    check_pushed(alone, server.folder / "run")


def test_what_is_received_is_bounded(received, alone, capsys):
    with serving(received, "--receive", "--receive_most", "0.00004") as server:
        assert main(["push", str(alone), server.pushing]) == 1
        assert "--receive_most" in capsys.readouterr().out
        assert not list((received / ".fallow-push" / "part").iterdir())
        assert sum(len(data) for data in files(received / ".fallow-push" / "new").values()) < 0.00004 * (
            1 << 30
        )
    with serving(received, "--receive") as server:
        assert main(["push", str(alone), server.pushing]) == 0
        check_pushed(alone, received / "run")
        for number in range(80):  # parts that nobody ends
            data = str(number).encode() * 10
            assert put(server.pushing, about(data), data[:5]).status_code == 200
        assert len(list((received / ".fallow-push" / "part").iterdir())) == 64


def shown(server, state):
    """Ask until the only run has a state, which the server remembers for a moment."""
    for _ in range(100):
        if (found := server.told("api/runs")["runs"][0]["state"]) == state:
            return
        time.sleep(0.05)
    raise AssertionError(f"{found} in place of {state}")


def test_what_is_said_of_a_run_stays_true(server, alone, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(RUNS / "stopped", run)
    assert main(["push", str(run), server.pushing]) == 0
    copy = server.folder / "run"
    told = json.loads((copy / NAME).read_text())
    assert doing(copy, list_runs(server.folder)[0].state, time.time()) == "stopped"

    def said(state):
        found = parse_link(server.pushing)
        headers = {"Authorization": f"Bearer {found.token}"}
        with httpx.Client(trust_env=False) as client:
            body = {"run": "run", "id": told["id"], "state": state}
            assert client.post(f"http://{found.place}/api/push", json=body, headers=headers).json() == {
                "run": "run"
            }

    now = time.time()
    for state in ("running", "stalled", "crashed"):
        said(state)
        os.utime(copy / NAME, (now, now))
        assert list_runs(server.folder)[0].state == state
        assert doing(copy, "running", now + QUIET / 2) == state
        assert doing(copy, "running", now + 2 * QUIET) == ("crashed" if state == "crashed" else "stalled")
        shown(server, state)
    said("running")
    os.utime(copy / NAME, (now - 2 * QUIET, now - 2 * QUIET))  # nobody has said a word since
    shown(server, "stalled")
    assert list_runs(server.folder)[0].state == "stalled"
    said("finished")  # which its files do not say
    shown(server, "stopped")


def test_a_certificate_is_known_by_its_fingerprint(received, alone, capsys):
    with serving(received, "--receive", "--self_signed") as server:
        link = server.pushing
        right = parse_link(link)
        assert right.secure
        assert main(["push", str(alone), link]) == 0
        other = link[:-1] + ("0" if link[-1] != "0" else "1")
        before = files(received)
        assert main(["push", str(RUNS / "stopped"), other]) == 2
        assert "another machine answers" in capsys.readouterr().err
        assert (
            main(["push", str(RUNS / "stopped"), link.rpartition(".")[0]]) == 2
        )  # no authority has signed it
        assert "known certificate" in capsys.readouterr().err
        assert files(received) == before
    with serving(received, "--receive", "--self_signed") as server:
        assert parse_link(server.pushing).fingerprint == right.fingerprint


@pytest.mark.parametrize(
    "link",
    ["", "x", "http://127.0.0.1:1/", "ftp://127.0.0.1/#" + "t" * 43, "http://10.0.0.1:8000/#" + "t" * 43,
     "http://localhost.evil/#" + "t" * 43, "https://u:p@host/#" + "t" * 43, "https://host:99999/#" + "t" * 43,
     "https://host/?a=b#" + "t" * 43, "http://127.0.0.1/#" + "t" * 43 + "." + "0" * 64, "https://#" + "t" * 43],
)  # fmt: skip
def test_a_wrong_link_is_refused_and_not_repeated(link):
    with pytest.raises(InvalidValue) as refused:
        parse_link(link)
    assert "t" * 43 not in str(refused.value)


def test_a_server_that_is_not_there_is_named(alone, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert main(["push", str(alone), f"http://127.0.0.1:{port}/#{'t' * 43}"]) == 1
    said = capsys.readouterr().err
    assert "must answer" in said
    assert "Look whether `fallow serve FOLDER --receive` runs there" in said


def test_a_link_of_the_other_scheme_is_named_at_once(alone, received, capsys):
    """The server is there and speaks otherwise, so that nothing would be gained by more tries."""
    with serving(received, "--receive") as server:
        assert main(["push", str(alone), server.pushing.replace("http://", "https://")]) == 2
        assert "Found http:// there. Copy the link that the server prints now" in capsys.readouterr().err
    with serving(received, "--receive", "--self_signed") as server:
        link = server.pushing.rpartition(".")[0].replace("https://", "http://")
        assert main(["push", str(alone), link]) == 2
        assert "Found https:// there. Copy the link that the server prints now" in capsys.readouterr().err
    assert list(received.iterdir()) == [received / ".fallow-push"]


def test_a_link_for_a_browser_is_no_link_for_pushing(alone, received, capsys):
    with serving(received, "--receive", "--write") as server:
        for token, found in (
            (server.token, "Found one for a browser."),
            (server.writing, "Found one for a browser."),
            ("t" * 43, "Found one that it does not know."),
        ):
            assert main(["push", str(alone), f"{server.base}#{token}"]) == 2
            said = capsys.readouterr().err
            assert found in said
            assert "Copy the link for pushing that `fallow serve FOLDER --receive` prints." in said
    with serving(received, "--receive", "--self_signed") as server:
        assert main(["push", str(alone), f"{server.base}#{server.token}"]) == 2
        assert "Copy the link for pushing that the server prints" in capsys.readouterr().err


def test_what_may_not_be_received_into(alone, received, capsys):
    assert main(["serve", str(alone), "--receive", "--port", "0"]) == 2
    assert "a folder of runs" in capsys.readouterr().err
    (received / ".fallow-push").mkdir(mode=0o755)
    assert main(["serve", str(received), "--receive", "--port", "0"]) == 2
    assert "you alone" in capsys.readouterr().err
    (received / ".fallow-push").rmdir()
    with serving(received, "--receive"):
        done = subprocess.run(
            command("serve", received, "--receive", "--port", "0"), capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "One server alone" in done.stderr


def test_pushing_loads_neither_torch_nor_the_server(alone, server):
    code = "import sys; from fallow.cli.main import main; code = main(sys.argv[1:])\n"
    code += (
        "print(sorted({'torch', 'lightning', 'starlette', 'uvicorn', 'httpx'} & sys.modules.keys()), code)"
    )
    words = [sys.executable, "-c", code, "push", str(alone)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, LINK: server.pushing})
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


def test_a_file_that_is_damaged_here_is_named(server, alone, tmp_path, capsys):
    for name, change in (
        ("config.yaml", Path.unlink),
        ("history/epoch-00001.safetensors", Path.unlink),
        ("summary.json", lambda path: path.write_text("garbage")),
    ):
        run = tmp_path / change.__name__.strip("<>") / name.partition(".")[0].replace("/", "-")
        shutil.copytree(RUNS / "finished", run)
        change(run / name)
        capsys.readouterr()
        assert main(["push", str(run), server.pushing]) == 3
        said = capsys.readouterr().out
        assert f"Damaged: {run}: " in said
        assert name in said
        assert "Errno" not in said


def test_the_second_push_sends_nothing(server, alone, tmp_path, capsys):
    run = shutil.copytree(RUNS / "finished", tmp_path / "again")
    assert main(["push", str(run), server.pushing, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] > 0
    assert main(["push", str(run), server.pushing, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 0


def test_a_pushed_run_is_mended_where_it_was_trained(server, alone, tmp_path, capsys):
    run = shutil.copytree(RUNS / "finished", tmp_path / "whole")
    assert main(["push", str(run), server.pushing]) == 0
    (server.folder / "whole" / "summary.json").write_text("garbage")
    capsys.readouterr()
    assert main(["verify", str(server.folder / "whole")]) == 3
    said = capsys.readouterr().out
    assert "fallow push, where it was trained" in said
    assert "--resume" not in said
