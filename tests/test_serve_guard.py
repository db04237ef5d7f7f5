"""Hostile requests to a real server: none gets through, none is a 500, none learns a place of the machine."""

import itertools
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import segno
from msgspec import structs

from fallow.serve.certificate import self_signed
from fallow.serve.hosts import Hosts, parsed, same_origin
from fallow.serve.openapi import document
from fallow.serve.routes import ROUTES
from fallow.serve.tokens import READ, WRITE, Tokens
from serving import SECONDS, serving, without_places

RUNS = Path(__file__).parent / "runs"
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW"]
READS = [route.path for route in ROUTES if route.method == "GET"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("served") / "runs"
    shutil.copytree(RUNS, out)
    (out.parent / "canary.txt").write_text("canary-of-the-test")
    return out


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder, "--write") as found:
        yield found


@pytest.fixture(scope="module")
def run(server):
    return next(each["id"] for each in server.told("api/runs")["runs"] if each["name"] == "finished")


HOSTS = """
evil.example 10.evil.example 192.168.evil.example 127.0.0.1.evil.example 127.0.0.1.nip.io localhost.evil
localhost.localdomain localhost.example evil.localhost.example evil-localhost localhost-evil xlocalhost localhostx
localhost. LOCALHOST. 127.0.0.1. 0.0.0.0 0 0x7f000001 2130706433 017700000001 127.1 127.0.1 127.0.0.01 0127.0.0.1
0x7f.0.0.1 127.0.0.256 127.0.0.2 10.0.0.1 169.254.169.254 192.168.0.1 255.255.255.255 [::] [::2] [::ffff:127.0.0.1]
[0:0:0:0:0:ffff:7f00:1] [fe80::1] [::1%25lo] [::1%lo] ::1 [::1 ::1] [127.0.0.1] [localhost] user@localhost
user:pass@127.0.0.1 localhost@evil.example localhost#evil localhost/evil localhost?evil localhost\\evil localhost:
localhost:0 localhost:65536 localhost:99999 localhost:-1 localhost:80:80 localhost:http localhost:8000a :8000 *
*.localhost %6cocalhost local%68ost 127%2e0%2e0%2e1 l\u00f6calhost xn--lcalhost-n4a ipp.localhost metadata.google.internal
host.docker.internal 127.0.0.1,evil.example localhost,localhost localhost;evil "localhost" 'localhost' <localhost>
http://localhost //localhost localhost%00 localhost\x01 [v1.fe80::] 1.1.1.1 ::ffff:7f00:1 .localhost ..localhost
127.0..1 127.0.0.1.1 0177.0.0.1 ①27.0.0.1 localhost_evil
""".split()


def test_the_list_of_hosts_is_long_enough():
    assert len(HOSTS) >= 80


@pytest.mark.parametrize("method", METHODS)
def test_no_other_host_is_answered_by_any_method(server, method):
    refused = []
    for host in HOSTS:
        lines = f"{method} /api/runs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.token}\r\n"
        lines += (
            f"X-Forwarded-Host: {server.host}\r\nForwarded: host={server.host}\r\nConnection: close\r\n\r\n"
        )
        status, _, body = server.raw(lines.encode("utf-8"))
        refused.append(status)
        assert status == 400, (host, status, body)
        without_places(server, body)
    assert len(refused) == len(HOSTS)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost", "[::1]", "[0:0:0:0:0:0:0:1]"])
def test_this_machine_is_answered_by_any_of_its_names(server, host):
    for port in ("", f":{server.port}", ":9000"):  # another port is that of a tunnel
        status, _, _ = server.request(host=f"{host}{port}")
        assert status == 200


def test_a_host_must_stand_once(server):
    for head in (
        "",
        f"Host: {server.host}\r\nHost: {server.host}\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
    ):
        status, _, _ = server.raw(f"GET /api/runs HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        assert status == 400
    status, _, _ = server.raw(b"GET /api/runs HTTP/1.0\r\n\r\n")
    assert status == 400


def test_an_address_of_this_machine_is_known_by_the_connection_alone():
    hosts = Hosts(frozenset({"box"}))
    assert hosts.allow("192.168.1.5:80", "192.168.1.5")
    assert not hosts.allow("192.168.1.6", "192.168.1.5")
    assert not hosts.allow("192.168.1.5", None)
    assert not hosts.allow("192.168.1.5.evil.example", "192.168.1.5")
    assert hosts.allow("BOX:1")
    assert parsed("[fe80::1]:65535")[1] == "65535"


ORIGINS = """
null http://evil.example https://evil.example http://127.0.0.1.evil.example http://localhost.evil file:// data:
http://127.0.0.1 http://127.0.0.1:1 https://127.0.0.1:1 http://127.0.0.2:{port} http://localhost:{port}
http://[::1]:{port} ftp://127.0.0.1:{port} chrome-extension://abc http://127.0.0.1:{port}/ http://127.0.0.1:{port}@evil
http://evil@127.0.0.1:{port} http://127.0.0.1:{port}.evil.example http://127.0.0.1:{port}? 127.0.0.1:{port} *
HTTP://127.0.0.1:{port} http://127.0.0.1:{port}, http://127.0.0.1:0{port}0 ws://127.0.0.1:{port} http:127.0.0.1:{port}
""".split()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_page_of_another_origin_is_answered(server, run, method):
    """127.0.0.1 and localhost are two origins."""
    for origin in ORIGINS:
        for path in ("/", f"/api/summary?run={run}", "/api/session", "/api/tick"):
            status, _, body = server.request(method, path, [f"Origin: {origin.format(port=server.port)}"])
            assert status == 403, (origin, path, status)
            without_places(server, body)
    for site in ("cross-site", "same-site", "evil", ""):
        for mode in ("cors", "no-cors", "navigate", "websocket"):
            headers = [f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}", "Sec-Fetch-Dest: document"]
            status, _, _ = server.request(method, "/api/runs", headers)
            assert status == 403
            status, _, _ = server.request(method, "/", headers)
            # Only to follow a link to a page is fine.
            assert status == (200 if mode == "navigate" and method == "GET" else 403)
    for dest in ("iframe", "script", "image", "embed", "object", "frame"):
        headers = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", f"Sec-Fetch-Dest: {dest}"]
        assert server.request("GET", "/", headers)[0] == 403
    own = [f"Origin: {server.base[:-1]}", "Sec-Fetch-Site: same-origin"]
    assert server.request("GET", "/api/runs", own)[0] == 200
    assert same_origin("https://localhost:8000", "localhost:8000"), "a proxy may speak TLS"
    assert same_origin("https://localhost", "localhost:443")
    assert not same_origin("http://localhost", "localhost:443")


def tokens_of_nobody(server):
    good = server.token
    return [
        "", " ", "x", good[:-1], good + "x", good[1:], good.swapcase(), good[::-1], "A" * 43, "null", "undefined",
        "../../etc/passwd", "Bearer", "0", "true", "'%20or%201=1", good[:20] + "%00" + good[20:], "x" * 4000,
    ]  # fmt: skip


def test_no_route_is_answered_without_a_token_of_this_server(server):
    """Waits between the wrong ones: more than ten in a second are refused as such."""
    for path in [*READS, "/api/openapi.json", "/api/tick", "/api/nowhere", "/api/"]:
        for headers in ([], [f"Cookie: fallow-{server.port}={server.token}"], ["X-Token: " + server.token]):
            for method in ("GET", "HEAD", "POST"):
                if (method, path) == ("POST", "/api/session"):
                    continue
                status, _, _ = server.request(method, path, headers, token=None)
                assert status == 401, (path, method)
        status, _, _ = server.request(
            "GET", f"{path}?token={server.token}&access_token={server.token}", token=None
        )
        assert status == 401
    for token in tokens_of_nobody(server):
        while (status := server.request("GET", "/api/runs", token=token or " ")[0]) == 429:
            time.sleep(0.2)
        assert status == 401, token
    basic = [f"Authorization: Basic {server.token}"]
    while (status := server.request("GET", "/api/runs", basic, token=None)[0]) == 429:
        time.sleep(0.2)
    assert status == 401
    twice = [f"Authorization: Bearer {server.token}"]
    assert server.request("GET", "/api/runs", twice)[0] == 400


def test_many_wrong_tokens_are_held_up_and_then_forgotten():
    now = [0.0]
    tokens = Tokens(clock=lambda: now[0])
    for _ in range(10):
        assert not tokens.is_held_up("a")
        tokens.note_wrong("a")
    assert tokens.is_held_up("a")
    assert not tokens.is_held_up("b")
    now[0] = 1.5
    assert not tokens.is_held_up("a")


def test_a_session_ends(server):
    now = [0.0]
    tokens = Tokens(write=True, clock=lambda: now[0])
    assert tokens.scopes(tokens.read) == {READ}
    assert tokens.scopes(tokens.write) == {READ, WRITE}
    assert tokens.scopes("") == Tokens().scopes("") == frozenset()
    name = tokens.begin(frozenset({READ}))
    assert tokens.of_session(name) == {READ}
    now[0] = 13 * 3600.0
    assert tokens.of_session(name) == frozenset()
    names = [tokens.begin(frozenset({READ})) for _ in range(300)]
    assert sum(bool(tokens.of_session(each)) for each in names) == 256


def login(server, client, token, **headers):
    own = {"Origin": server.base[:-1], "Sec-Fetch-Site": "same-origin", **headers}
    return client.post("api/session", json={"token": token}, headers=own)


def test_a_browser_exchanges_the_token_for_a_cookie_once(server, run):
    with server.client(token=None) as client:
        assert client.get("/").status_code == 200
        assert client.get("api/runs").status_code == 401
        found = login(server, client, server.token)
        assert found.status_code == 200
        assert found.json()["scopes"] == ["read"]
        cookie = found.headers["set-cookie"]
        assert cookie.startswith(f"fallow-{server.port}=")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        assert server.token not in cookie
        assert client.get("api/runs").status_code == 200
        # A session that may read cannot write, whatever it says.
        body = {"run": run, "gap": "gap 1", "found": 1}
        own = {"Origin": server.base[:-1], "X-HTTP-Method-Override": "PUT", "X-Scope": "write"}
        assert client.post("api/tick", json=body, headers=own).status_code == 403
        assert client.post("api/session/end", json={}, headers={"Origin": server.base[:-1]}).json() == {
            "ended": True
        }
        assert client.get("api/runs").status_code == 401
        client.cookies.set(f"fallow-{server.port}", cookie.partition("=")[2].partition(";")[0])
        assert client.get("api/runs").status_code == 401, "the session has ended, and not the cookie alone"


def test_a_cookie_writes_for_pages_of_this_server_alone(server, run):
    with server.client(token=None) as client:
        assert login(server, client, server.writing).json()["scopes"] == ["read", "write"]
        body = json.dumps({"run": run, "gap": "gap 1", "found": 1})
        kind = {"Content-Type": "application/json"}
        own = {"Origin": server.base[:-1]}
        assert client.post("api/tick", content=body, headers=kind).status_code == 403, "without an origin"
        for other in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ):
            assert (
                client.post("api/tick", content=body, headers=own | {"Content-Type": other}).status_code
                == 415
            )
        assert (
            client.post(
                "api/tick", content=body, headers=kind | own | {"Sec-Fetch-Site": "same-site"}
            ).status_code
            == 403
        )
        # It is let in, and there is no such gap.
        found = client.post("api/tick", content=body, headers=kind | own)
        assert (found.status_code, found.json()["code"]) == (404, "none")


TRAVERSAL = """
../ ../../etc/passwd ..%2f..%2fetc%2fpasswd %2e%2e/%2e%2e/etc/passwd %252e%252e%252fetc%252fpasswd ..%c0%af..%c0%afetc
..\\..\\windows\\win.ini ..%5c..%5cwindows ....//....//etc/passwd /etc/passwd //etc/passwd file:///etc/passwd
\\\\host\\share \\\\?\\C:\\windows C:\\windows C:/windows %00 x%00.png ../canary.txt ..%2fcanary.txt ../runs/finished
finished finished/../stopped ./finished /proc/self/environ /proc/self/cwd/x /dev/zero ~ ~root/.ssh/id_rsa $HOME
${HOME} `id` $(id) ;id |id ' " <script>alert(1)</script> {{7*7}} ${7*7} %0d%0aSet-Cookie:x=1 %0aX:1 # ? & ?? &&
..;/ ..%3b/ %2e%2e%2f %uff0e%uff0e/ %e0%80%ae%e0%80%ae/ 0 -1 1e400 NaN inf 9223372036854775808 1_000 0x10 ١٢ +1 %201
null true [] {} [0] {"a":1} *  %ff %fe%ff %80 %ed%a0%80 cd64fed4836d7817 CD64FED4836D7817 cd64fed4836d781 zzzzzzzzzzzzzzzz
""".split()


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_no_parameter_is_a_path(server, run, step):
    """Every payload in every parameter of every route: none is found, none is a 500, none names a place."""
    seen = Counter()
    with server.client() as client:
        for route in ROUTES:
            names = (
                [field.encode_name for field in structs.fields(route.ask)] if route.method == "GET" else []
            )
            for name, payload in list(itertools.product(names, TRAVERSAL))[::step]:
                lead = f"run={run}&" if name != "run" and "run" in names else ""
                value = quote(payload, safe="%/.:;,'()*!$@\\".replace("\\", ""))
                found = client.get(f"{route.path[1:]}?{lead}{name}={value}")
                assert found.status_code in (200, 202, 400, 404, 409), (route.path, payload, found.text)
                assert "canary-of-the-test" not in found.text
                assert "root:" not in found.text
                without_places(server, found.content)
                seen[found.status_code] += 1
    assert {200, 400} <= set(seen)
    assert seen.total() >= 3000 // step


def test_no_path_leads_to_a_file(server):
    starts = ["/", "/static/", "/api/", "/api/picture/", "/static/../", "//", "/static/%2e%2e/"]
    for start, payload in itertools.product(starts, TRAVERSAL):
        path = (start + payload).replace(" ", "%20")
        if not path.isascii():
            continue
        status, _, body = server.request("GET", path)
        # "?" and "#" end the path.
        home = path.partition("?")[0].partition("#")[0] == "/"
        assert status in (400, 404) or (home and status == 200), (path, status)
        assert b"canary-of-the-test" not in body
        without_places(server, body)


@pytest.mark.parametrize("method", METHODS)
def test_only_known_methods_are_answered(server, method):
    for path in [*READS, "/", "/nowhere", "/api/tick"]:
        status, head, body = server.request(method, path, ["Content-Type: application/json"])
        assert status < 500
        if method in ("GET", "HEAD"):
            assert status != 405 or path == "/api/tick"
        elif method != "POST":
            assert status == 405
        assert b"access-control" not in head
        without_places(server, body)


def test_every_answer_has_the_headers_that_keep_it_in_place(server, run):
    for path in (
        "/",
        "/api/runs",
        f"/api/summary?run={run}",
        "/api/nowhere",
        f"/api/picture?run={run}&sample=3",
    ):
        status, head, _ = server.request("GET", path)
        assert status in (200, 404)
        for line in (
            b"x-content-type-options: nosniff",
            b"referrer-policy: no-referrer",
            b"x-frame-options: deny",
            b"cross-origin-resource-policy: same-origin",
            b"cross-origin-opener-policy: same-origin",
            b"frame-ancestors 'none'",
            b"default-src 'none'",
        ):
            assert line in head, (path, line)
        assert b"server:" not in head
        assert b"unsafe" not in head


def test_limits_of_a_request(server, run):
    head = f"Host: {server.host}\r\nAuthorization: Bearer {server.writing}\r\nConnection: close\r\n"
    kind = "Content-Type: application/json\r\n"
    big = "x" * 70_000
    requests = {
        414: f"GET /api/runs?{'x' * 9000} HTTP/1.1\r\n{head}\r\n",
        431: f"GET /api/runs HTTP/1.1\r\n{head}{''.join(f'X-{i}: 1{chr(13)}{chr(10)}' for i in range(90))}\r\n",
        413: f"POST /api/tick HTTP/1.1\r\n{head}{kind}Content-Length: {len(big)}\r\n\r\n{big}",
    }
    for expected, request in requests.items():
        assert server.raw(request.encode())[0] == expected
    assert server.raw(f"GET /api/runs HTTP/1.1\r\n{head}X: {big}\r\n\r\n".encode())[0] in (400, 431)
    wrong = [
        f"GET /api/runs HTTP/1.1\r\n{head}Content-Length: 3\r\n\r\nabc",
        f"POST /api/tick HTTP/1.1\r\n{head}{kind}Content-Length: -1\r\n\r\n",
        f"POST /api/tick HTTP/1.1\r\n{head}{kind}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}",
        f"POST /api/tick HTTP/1.1\r\n{head}{kind}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"POST /api/tick HTTP/1.1\r\n{head}{kind}Transfer-Encoding: chunked\r\n\r\nfffffffff\r\nx",
        f"POST /api/tick HTTP/1.1\r\n{head}{kind}Transfer-Encoding: gzip\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "\x00\x01\x02\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    odd = [f"GET /api/runs HTTP/1.1\r\n{head} folded: x\r\n\r\n", f"GET /api/runs HTTP/9.9\r\n{head}\r\n"]
    assert {server.raw(request.encode())[0] for request in odd} <= {200, 400, 505}
    for request in wrong:
        status, _, body = server.raw(request.encode("latin-1"))
        assert status in (0, 400, 408, 413, 501), request[:80]
        without_places(server, body)
    assert (
        server.request("GET", "/api/runs", ["Range: bytes=" + ",".join(f"{i}-" for i in range(5000))])[0]
        == 200
    )


def test_a_body_that_is_no_json_of_ours(server, run):
    bodies = [
        "", "x", "[]", "null", "1", '"x"', "{", "[" * 10_000, '{"found":' + "9" * 5000 + "}", '{"found": NaN}',
        '{"found": 1e400}', '{"found": -1}', '{"found": 1.5}', '{"found": true}', '{"found": "1"}', "\ufeff{}",
        json.dumps({"run": run, "found": 1}), json.dumps({"run": run, "found": 1, "gap": "a", "list": "picks-000"}),
        json.dumps({"run": run, "found": 1, "list": "picks-000"}), json.dumps({"run": "../x", "found": 1, "gap": "a"}),
        json.dumps({"run": run, "found": 1, "list": "../picks-000", "place": 0}), '{"found":1,"found":2,"gap":"\\ud800"}',
        json.dumps({"run": run, "found": 1, "gap": "a", "note": "x" * 501}), json.dumps({"run": run, "found": 1, "gap": "a", "path": "/x"}),
    ]  # fmt: skip
    with server.client(server.writing) as client:
        for body in bodies:
            found = client.post(
                "api/tick", content=body.encode("utf-8"), headers={"Content-Type": "application/json"}
            )
            assert found.status_code in (400, 404), body[:80]
            without_places(server, found.content)
    assert not list(server.folder.rglob("ticks.jsonl"))


WRONG = {
    "summary?run=x": "`run` must be the id of a run, 16 of the digits 0-9 and a-f, as /api/runs has it. Found 'x'.",
    "compare?run={run}": "`run` must be given 2 to 8 times, each the id of a run, 16 of the digits 0-9 and a-f, as /api/runs has it. Found 1 of them.",
    "compare?run={run}&run=y": "as /api/runs has it. Found 'y'.",
    "usage?run={run}&order=x": "`order` must be class, first_left_out, index, score or times. Found 'x'.",
    "usage?run={run}&rows=5000": "`rows` must be a whole number from 1 to 1,024. Found '5000'.",
    "usage?run={run}&rows=a": "`rows` must be a whole number from 1 to 1,024. Found 'a'.",
    "samples?run={run}&after=%21": "`after` must be `next` of the page before. Found '!'.",
    "samples?run={run}&score_from=nan": "`score_from` must be a number from -1e+300 to 1e+300. Found 'nan'.",
    "samples?run={run}&never=2": "`never` must be 0 or 1. Found '2'.",
    "sample?run={run}": "`sample` must be given: a whole number from 0 to 9,007,199,254,740,991.",
    "summary?run={run}&x=1": "The parameters of this route are: run. Found 'x'.",
    "session?%0ax=1": r"The parameters of this route are: none. Found '\nx'.",
}


@pytest.mark.parametrize("asked", WRONG)
def test_a_wrong_parameter_is_told_in_words(server, run, asked):
    found = server.get(f"api/{asked.format(run=run)}")
    assert found.status_code == 400
    assert found.json()["error"].endswith(WRONG[asked])


def test_every_form_of_a_text_has_words():
    """A pattern is for programs: people read what stands beside it."""

    def looked(part):
        if isinstance(part, dict):
            assert ("pattern" in part) == ("x-form" in part), part
            return ("pattern" in part) + sum(map(looked, part.values()))
        return sum(map(looked, part)) if isinstance(part, list) else 0

    assert looked(document()) > 20


def test_no_token_is_repeated(server):
    with server.client(None) as client:
        found = client.post("api/session", json={"token": "t" * 300}, headers={"Origin": server.base[:-1]})
    assert found.json()["error"] == "`token` must be a text of 1 to 256 letters. Found another."


def test_no_websocket(server):
    for path in ("/", "/api/runs", "/ws"):
        headers = [
            "Upgrade: websocket",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ]
        lines = [f"GET {path} HTTP/1.1", f"Host: {server.host}", "Connection: Upgrade", *headers]
        status, _, _ = server.raw("\r\n".join(lines).encode() + b"\r\n\r\n")
        assert status != 101


def test_slow_clients_hold_up_nobody(server):
    """Two hundred that never end their request: others are answered meanwhile, and they are closed."""
    slow = []
    try:
        for _ in range(200):
            connection = socket.create_connection(("127.0.0.1", server.port), SECONDS)
            connection.sendall(b"GET /api/runs HTTP/1.1\r\nHost: 127")
            slow.append(connection)
        for _ in range(20):
            assert server.request("GET", "/api/runs")[0] == 200
        closed = 0
        for connection in slow:
            connection.settimeout(SECONDS)
            try:
                closed += connection.recv(1) == b""
            except ConnectionError:
                closed += 1
        assert closed == 200
    finally:
        for connection in slow:
            connection.close()


def test_a_client_that_takes_nothing_holds_up_nobody(server, run):
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as connection:
        request = f"GET /api/usage?run={run} HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: Bearer {server.token}\r\n\r\n"
        connection.sendall(request.encode() * 50)
        for _ in range(20):
            assert server.request("GET", "/api/runs")[0] == 200


def test_the_tokens_are_in_no_file_and_no_argument(server):
    assert not [
        path
        for path in server.folder.rglob("*")
        if path.is_file() and server.token.encode() in path.read_bytes()
    ]
    words = Path(f"/proc/{server.process.pid}/cmdline")
    if words.exists():
        assert server.token.encode() not in words.read_bytes()


def test_the_openapi_file_is_that_of_the_code():
    path = Path(__file__).parent.parent / "docs" / "openapi.json"
    step = "Write it again: python -m fallow.serve.openapi docs/openapi.json"
    assert json.loads(path.read_text()) == document(), step
    assert set(document()["paths"]) == {route.path for route in ROUTES}


def refused(*words):
    done = subprocess.run([sys.executable, "-m", "fallow", "serve", *map(str, words)], capture_output=True, text=True, timeout=SECONDS)  # fmt: skip
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_reached_by_tls_alone(folder, host):
    code, said = refused(folder, "--port", "0", "--host", host)
    assert code == 2
    assert "must speak TLS" in said


@pytest.mark.parametrize(
    "words",
    [
        ["nowhere"], ["--cert", "x.pem"], ["--key", "x.pem"], ["--cert", "a", "--key", "b"], ["--port", "65536"],
        ["--cert", "a", "--key", "b", "--self_signed"], ["--root_path", "x"], ["--root_path", "/x/"], ["--root_path", "/../x"],
        ["--root_path", "/x y"], ["--root_path", '/";x'], ["--port", "x"], ["--nothing"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_words_are_refused(folder, words):
    code, _ = refused(*([] if words[0] == "nowhere" else [folder]), *words)
    assert code == 2


@pytest.mark.parametrize(
    ("host", "why"),
    [("999.1.1.1", "--host '999.1.1.1': "), ("", "--host '': "), ("a b", "--host 'a b': "),
     ("x" * 70 + ".example", ".example': no name"), ("192.0.2.1", "--host 192.0.2.1: ")],
)  # fmt: skip
def test_a_host_that_is_not_this_machine_is_named(folder, host, why):
    code, said = refused(folder, "--self_signed", "--host", host)
    assert code == 2
    assert "--host must be an address of this machine, or a name that leads to one. Found" in said
    assert why in said
    assert "0.0.0.0 from all networks" in said


def test_a_port_that_another_program_has_is_named(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = refused(folder, "--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "must be free. Found another program that listens there. Name another --port" in said


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """Two certificates with their keys, and what one may name in their place."""
    from cryptography.hazmat.primitives import serialization as kinds

    place = tmp_path_factory.mktemp("pem")
    for name in ("a", "b"):
        (place / name).mkdir()
        self_signed(["localhost"], place / name)
    cert, key = (place / "a" / name for name in ("cert.pem", "key.pem"))
    found = kinds.load_pem_private_key(key.read_bytes(), None)
    locked = kinds.BestAvailableEncryption(b"word")
    (place / "locked").write_bytes(found.private_bytes(kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, locked))
    (place / "cert cut").write_bytes(cert.read_bytes()[:200])
    (place / "key cut").write_bytes(key.read_bytes()[:100])
    (place / "der").write_bytes(ssl.PEM_cert_to_DER_cert(cert.read_text()))
    (place / "empty").write_bytes(b"")
    return place


CERT, KEY = "a/cert.pem", "a/key.pem"


@pytest.mark.parametrize(
    ("cert", "key", "rule", "found", "step"),
    [
        (CERT, "b/key.pem", "--key must be that of --cert.", "b/key.pem, the key of another", "Name the key that"),
        (CERT, "locked", "--key must have no password.", "locked, which has one", "openssl pkey -in"),
        ("cert cut", KEY, "--cert must be whole.", "cert cut, which is cut off", "Put back a copy"),
        (CERT, "key cut", "--key must be whole.", "key cut, which is cut off", "Put back a copy"),
        (KEY, CERT, "--cert must be a certificate, in PEM.", "key.pem, which holds -----BEGIN PRIVATE KEY-----", "BEGIN CERT"),
        (CERT, CERT, "--key must be a private key, in PEM.", "cert.pem, which holds -----BEGIN CERTIFICATE-----", "BEGIN PRIV"),
        ("der", KEY, "--cert must be a certificate, in PEM.", "der, which holds no PEM", "BEGIN CERTIFICATE"),
        (CERT, "empty", "--key must be a private key, in PEM.", "empty, which holds no PEM", "BEGIN PRIVATE KEY"),
        ("none", KEY, "--cert must be a certificate, in PEM.", "none: No such file", "that you can read"),
        (CERT, "a", "--key must be a private key, in PEM.", "a: Is a directory", "that you can read"),
    ],
)  # fmt: skip
def test_a_certificate_or_key_that_cannot_be_used_is_named(folder, pem, cert, key, rule, found, step):
    code, said = refused(folder, "--cert", pem / cert, "--key", pem / key)
    assert code == 2
    for part in (rule, f"/{found}", step):
        assert part in said
    assert "_ssl.c" not in said


def test_a_certificate_of_ones_own_is_served(folder, pem):
    with serving(folder, "--cert", pem / CERT, "--key", pem / KEY) as server:
        assert server.told("api/health")["server"]["secure"]


def test_tls_with_a_certificate_made_on_the_spot(folder):
    pytest.importorskip("cryptography")
    with serving(folder, "--host", "127.0.0.1", "--self_signed") as server:
        assert server.base.startswith("https://127.0.0.1:")
        said = server.process.stderr.readline()
        shown = said.rpartition(" ")[2].strip().replace(":", "").lower()
        pem = ssl.get_server_certificate(("127.0.0.1", server.port))
        import hashlib

        assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() == shown
        context = ssl.create_default_context(cadata=pem)
        with httpx.Client(base_url=server.base, verify=context, trust_env=False) as client:
            own = {"Origin": server.base[:-1]}
            found = client.post("api/session", json={"token": server.token}, headers=own)
            assert found.headers["set-cookie"].startswith(f"__Host-fallow-{server.port}=")
            assert "Secure" in found.headers["set-cookie"]
            assert client.get("api/runs").status_code == 200
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as plain, pytest.raises(OSError):  # noqa: PT011
            old.wrap_socket(plain)


def test_a_local_socket_is_this_users_alone(folder, tmp_path):
    path = tmp_path / "socket"
    with serving(folder, "--uds", str(path)) as server:
        assert path.stat().st_mode & 0o777 == 0o600
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://localhost", trust_env=False) as client:
            assert client.get("/api/runs").status_code == 401
            found = client.get("/api/runs", headers={"Authorization": f"Bearer {server.token}"})
            assert found.status_code == 200
            assert client.get("/api/runs", headers={"Host": "127.0.0.1.evil.example"}).status_code == 400
        code, said = refused(folder, "--uds", path)
        assert code == 2
        assert "where a server listens" in said
    assert not path.exists()
    path.write_text("mine")
    assert refused(folder, "--uds", path)[0] == 2
    assert path.read_text() == "mine"


def test_behind_a_prefix_that_a_proxy_takes_away_or_not(folder):
    with serving(folder, "--root_path", "/proxy/fallow") as server:
        assert server.base.endswith("/proxy/fallow/")
        for path in ("/api/runs", "/proxy/fallow/api/runs", "/", "/proxy/fallow/", "/proxy/fallow"):
            assert server.request("GET", path)[0] == 200, path
        for path in ("/proxy/api/runs", "/proxy/fallowapi/runs", "/proxy/fallow/proxy/fallow/api/runs"):
            assert server.request("GET", path)[0] == 404
        with server.client(token=None) as client:
            assert (
                "Path=/proxy/fallow"
                in login(server, client, server.token, Origin=f"http://{server.host}").headers["set-cookie"]
            )


CODE = re.compile(r"(http://\S+/)#([A-Za-z0-9_-]{22}) works once, within 60 s\. Enter draws a new one\.\n")


def drawn_code(server):
    """Return the code that a server draws next, as its drawing and the line beneath have it."""
    while (match := CODE.fullmatch(server.process.stderr.readline())) is None:
        pass
    base, text = match.groups()
    assert base == server.base
    code = segno.make(f"{base}#{text}", error="l", micro=False)
    size, border = len(code.matrix), code.default_border_size
    lines = [server.process.stdout.readline().rstrip("\n") for _ in range(-(-(size + 2 * border) // 2))]
    assert server.process.stdout.readline() == "\n"
    # A light field is drawn, as most terminals are dark.
    dark = {" ": (1, 1), "▄": (1, 0), "▀": (0, 1), "█": (0, 0)}
    fields = [[dark[mark][half] for mark in line] for line in lines for half in (0, 1)]
    inside = [row[border:-border] for row in fields[border : border + size]]
    assert inside == [list(row) for row in code.matrix]
    return text


def test_a_code_for_a_phone_works_once(folder):
    with serving(folder, "--qr") as server, server.client(token=None) as client:
        first = drawn_code(server)
        # It is no token, and no session.
        assert server.request("GET", "/api/runs", token=first)[0] == 401
        cookie = [f"Cookie: fallow-{server.port}={first}"]
        assert server.request("GET", "/api/runs", cookie, token=None)[0] == 401
        assert login(server, client, first[:-1]).status_code == 401
        found = login(server, client, first)
        assert (found.status_code, found.json()["scopes"]) == (200, ["read"])
        assert client.get("api/runs").status_code == 200
        assert client.post("api/tick", json={}, headers={"Origin": server.base[:-1]}).status_code == 403
        with server.client(token=None) as other:
            assert login(server, other, first).status_code == 401
            # Enter draws another one, and the one before it ends then.
            typed = server.process.stdin
            print(file=typed, flush=True)
            second = drawn_code(server)
            print(file=typed, flush=True)
            third = drawn_code(server)
            assert len({first, second, third}) == 3
            assert login(server, other, second).status_code == 401
            assert login(server, other, third).status_code == 200
        assert client.get("api/runs").status_code == 200
        typed.close()
        server.process.stdin = None
        assert server.get("api/runs").status_code == 200, "it goes on without anybody who types"


def test_one_of_many_gets_the_session_of_a_code(folder):
    with serving(folder, "--qr") as server:
        code = drawn_code(server)

        def one(_):
            with server.client(token=None) as client:
                return login(server, client, code).status_code

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one, range(8)))
        assert Counter(answers) == {200: 1, 401: 7}


@pytest.mark.parametrize(
    ("age", "works"), [(0, True), (1, True), (59.999, True), (60, False), (61, False), (1e6, False)]
)
def test_a_code_ends_after_a_minute(age, works):
    now = [100.0]
    tokens = Tokens(write=True, clock=lambda: now[0])
    code = tokens.new_code()
    now[0] += age
    assert tokens.redeem(code) == (frozenset({READ}) if works else frozenset())
    now[0] = 100.0
    assert tokens.redeem(code) == frozenset(), "neither used nor expired ones come back"


GUESSES = [
    lambda tokens, code: "", lambda tokens, code: code[:-1], lambda tokens, code: code + "A", lambda tokens, code: code[1:],
    lambda tokens, code: code.swapcase(), lambda tokens, code: code + "\0", lambda tokens, code: " " + code,
    lambda tokens, code: code * 20, lambda tokens, code: "A" * 22, lambda tokens, code: tokens.read,
    lambda tokens, code: tokens.write, lambda tokens, code: tokens.begin(frozenset({READ})), lambda tokens, code: Tokens().new_code(),
    lambda tokens, code: "\ud800" + code[1:],
]  # fmt: skip


@pytest.mark.parametrize("guess", range(len(GUESSES)))
def test_what_is_nearly_a_code_is_none_and_leaves_it(guess):
    tokens = Tokens(write=True, clock=lambda: 0.0)
    assert tokens.redeem("") == frozenset(), "before there is one"
    code = tokens.new_code()
    assert tokens.redeem(GUESSES[guess](tokens, code)) == frozenset()
    assert tokens.scopes(code) == tokens.of_session(code) == frozenset()
    assert tokens.redeem(code) == {READ}


def test_of_many_at_once_one_redeems_a_code():
    tokens = Tokens(clock=lambda: 0.0)
    for _ in range(50):
        code, together = tokens.new_code(), threading.Barrier(8)

        def one(code=code, together=together):
            together.wait()
            return tokens.redeem(code)

        with ThreadPoolExecutor(8) as pool:
            found = [each.result() for each in [pool.submit(one) for _ in range(8)]]
        assert sorted(map(len, found)) == [0] * 7 + [1]
