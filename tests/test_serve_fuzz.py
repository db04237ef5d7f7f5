"""Requests made from the description of the API, right and wrong: each answer is one that it describes."""

import hashlib
import json
import random
import re
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import httpx
import jsonschema
import pytest

from fallow.runs.picks_file import Pick, dump_picks
from serving import SECONDS, serving, without_places
from test_report import HOSTILE, make_run, put_gaps, told_gaps

DOCUMENT = json.loads((Path(__file__).parent.parent / "docs" / "openapi.json").read_text())
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
NOT_OURS = ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW")
OTHER = "127.0.0.7"
"""The address that wrong tokens come from: they hold up whoever tries them."""
PIECE = b"{}" * 20
"""What is sent of a file that is pushed, or a part of it."""
WORDS = [
    "", " ", "0", "1", "-1", "true", "null", "NaN", "inf", "1e308", "1e999", "0x1", "1_0", "٣", "9" * 30, "9" * 5000, "1.5",
    "[]", "{}", "[[", "a" * 300, "'", '"', "\\", "%", "%00", "\0", "\r\nX: y", "é", "\u202e", "\U0001f600", "../..", "/etc/passwd",
    "${7*7}", "{{7*7}}", "<script>", "; ls", "' OR 1=1 --", "class", "score", "-score", "2.0", "+1", " 1", "1 ", "9007199254740993",
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed") / "runs"
    names = tuple(word.encode("utf-8", "backslashreplace").decode() for word in HOSTILE)
    for name, count in (("one", 64), ("two", 40)):
        make_run(
            folder / name, n=count, epochs=5, classes=len(names), names=names, shown=True,
            files=tuple(f"/pictures/{HOSTILE[i % 5]}/{i}.png" for i in range(count)), options={"data": "/pictures"},
        )  # fmt: skip
        put_gaps(folder / name, told_gaps(names))
        picks = [
            Pick(i, names[0], 1.5, "gap 1", names[1], "/pool", f"{i}.png", f"{i:016x}") for i in range(5)
        ]
        (folder / name / "picks-000.csv").write_bytes(dump_picks(picks))
    make_run(folder / "bare", n=9, epochs=1, classes=0, summary=False, predicted=False)
    with serving(folder, "--write", "--receive") as server:
        ids = [row["id"] for row in server.told("api/runs")["runs"]]
        assert len(ids) == 3
        server.known = {
            "run": [*ids * 3, "0123456789abcdef"], "token": [server.token, server.writing, "x" * 43],
            "list": ["picks-000", "picks-001"], "gap": ["gap 1", "gap 2", "gap 9", *HOSTILE[:5]],
            "id": ["0" * 32, "f" * 32], "sha256": ["0" * 64, hashlib.sha256(PIECE).hexdigest()],
            "file": ["config.yaml", "summary.json", "data.safetensors", "history/epoch-00001.safetensors", "state/000001.json",
                     "model.safetensors", "../lock"],
        }  # fmt: skip
        yield server


def pick_value(draw, name, schema, known):
    """Return a value of a parameter as text: nine of ten are as its schema says."""
    if draw.random() < 0.1:
        return draw.choice(WORDS)
    if "anyOf" in schema:
        return pick_value(draw, name, draw.choice(schema["anyOf"]), known)
    if "enum" in schema:
        return str(draw.choice(schema["enum"]))
    kind = schema.get("type")
    if kind == "integer":
        low, high = schema.get("minimum", 0), schema.get("maximum", schema.get("exclusiveMaximum", 100) - 1)
        return str(
            draw.choice([low, high, low - 1, high + 1, *[min(high, draw.randrange(low, low + 80))] * 8])
        )
    if kind == "number":
        return repr(draw.choice([0.0, -1.0, 1e300, 5e-324, draw.uniform(-1, 5)]))
    if name == "after":
        return f"{draw.getrandbits(64):016x}.{draw.randrange(70)}"
    return draw.choice(known.get(name, WORDS))


def query_of(draw, operation, known):
    """Return the query of a request for reading."""
    pairs = []
    for parameter in operation.get("parameters", []):
        name, schema = parameter["name"], parameter["schema"]
        if schema.get("type") == "array":
            count = draw.choice([0, 1, 2, 2, 2, 3, 9])
            values = draw.sample(known[name][:3], count) if count <= 3 else draw.choices(known[name], k=count)
            pairs += [(name, value) for value in values]
        elif draw.random() < (0.95 if parameter["required"] or name == "run" else 0.3):
            pairs.append((name, pick_value(draw, name, schema, known)))
    if draw.random() < 0.03:
        pairs.append((draw.choice(["other", *(name for name, _ in pairs), *WORDS[:8]]), draw.choice(WORDS)))
    draw.shuffle(pairs)
    text = "&".join(
        f"{quote(name, safe='')}={quote(value.encode('utf-8', 'replace'), safe='')}" for name, value in pairs
    )
    return draw.choice(WORDS[:30]).encode("utf-8", "replace").hex() if draw.random() < 0.01 else text


def body_of(draw, operation, known):
    """Return the body of a request for writing."""
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = DOCUMENT["components"]["schemas"][name]
    plain = {}
    for key, kind in schema.get("properties", {}).items():
        if draw.random() < (0.95 if key in schema.get("required", []) or key == "run" else 0.4):
            value = pick_value(draw, key, kind, known)
            whole = re.fullmatch(r"-?[0-9]{1,20}", value) and key in ("place", "found")
            plain[key] = int(value) if whole else draw.choice([value] * 9 + [None, 1.5, [], {}, True])
    if draw.random() < 0.03:
        plain[draw.choice(["path", "__class__", ""])] = "x"
    data = json.dumps(plain).encode()
    if draw.random() < 0.1:
        at = draw.randrange(len(data))
        data = draw.choice(
            [data[:at], data + data, b"[" * 5000, data[:at] + draw.randbytes(3) + data[at:], b"", b"null"]
        )
    return data


def validators():
    """Return what checks an answer, by method, path and status."""
    found = {}
    for method, path, operation in OPERATIONS:
        for status, answer in operation["responses"].items():
            if "$ref" in answer:
                answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
            content = answer.get("content", {}).get("application/json")
            schema = None if content is None else {**content["schema"], "components": DOCUMENT["components"]}
            found[method, path, int(status)] = (
                None if schema is None else jsonschema.Draft202012Validator(schema)
            )
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [1_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_every_answer_is_one_that_the_description_has(served, count):
    draw, checks, seen = random.Random(count), validators(), Counter()
    tags, failure = {}, jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/Failure", "components": DOCUMENT["components"]}
    )  # fmt: skip
    other = httpx.Client(
        base_url=served.base,
        trust_env=False,
        timeout=SECONDS,
        transport=httpx.HTTPTransport(local_address=OTHER),
    )
    token = served.pushing.partition("#")[2]
    with served.client(served.writing) as client, served.client(token) as pusher, other:
        for number in range(count):
            method, path, operation = OPERATIONS[number % len(OPERATIONS)]
            asks, headers, body = client, {}, None
            url = path[1:]
            if method != "POST":
                query = query_of(draw, operation, served.known)
                url += f"?{query}" if query else ""
                if url in tags and draw.random() < 0.3:
                    headers["If-None-Match"] = tags[url]
            if path == "/api/push" and draw.random() < 0.95:
                asks = pusher
            if method == "PUT":
                body = draw.choice([b"", PIECE, PIECE[: draw.randrange(1, 40)], draw.randbytes(50)])
                headers["Content-Type"] = draw.choice(["application/octet-stream"] * 9 + ["text/plain"])
            elif method == "POST":
                body = body_of(draw, operation, served.known)
                kinds = ["application/json"] * 20 + ["text/plain", "", "application/json; charset=latin-1"]
                headers["Content-Type"] = draw.choice(kinds)
                if path.endswith("session"):
                    asks = other
                    headers |= {"Origin": served.base[:-1]} if draw.random() < 0.9 else {}
            if draw.random() < 0.02:
                asks, headers["Authorization"] = other, draw.choice(["Bearer x", "Basic eA==", "", "Bearer"])
            ours = {one for one, where, _ in OPERATIONS if where == path}
            others = [one for one in (*NOT_OURS, "HEAD") if one not in ours]
            sent = method if draw.random() > 0.02 else draw.choice(others)
            answer = asks.request(sent, url, content=body, headers=headers)
            status = answer.status_code
            seen[status] += 1
            told = f"request {number}: {sent} {url} {body} gives {status} {answer.text[:300]}"
            assert status < 500 or status in (503, 507), told
            assert "Traceback" not in answer.text, told
            without_places(served, answer.content)
            if sent == "HEAD":
                assert not answer.content, told
            elif sent != method:
                assert status in (401, 405, 414), told
                failure.validate(answer.json())
            else:
                assert (method, path, status) in checks, told
                check = checks[method, path, status]
                if check is not None:
                    assert answer.headers["content-type"] == "application/json", told
                    check.validate(answer.json())
                elif status == 200:
                    assert answer.content.startswith(b"\x89PNG"), told
                else:
                    assert (status, answer.content) == (304, b""), told
                if status == 200 and "etag" in answer.headers:
                    tags[url] = answer.headers["etag"]
    print(dict(seen))
    assert seen[200] > count / 4
    assert min(seen[status] for status in (304, 400, 401, 404, 405, 415)) > 0
    assert not seen[503], "no file of these runs is damaged"
    # 409: a piece of a file that differs from the one that is there.
    assert set(seen) <= {200, 202, 304, 400, 401, 403, 404, 405, 409, 413, 414, 415, 429}
