"""The console: every page answers, nothing but the lake can be reached, and only those get in who may."""

from __future__ import annotations

import re
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import StarletteDeprecationWarning

import loadlock
from ingest.errors import UsageError
from loadlock.console import sqlbox
from loadlock.console.app import HEADERS, application
from loadlock.console.pages import PAGES

with warnings.catch_warnings():
    warnings.simplefilter("ignore", StarletteDeprecationWarning)  # it would rather have another httpx
    from starlette.testclient import TestClient

Run = Callable[..., Any]
HOSTILE = "</script><img src=x onerror=alert(1)>'; DROP TABLE traces; --"
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def client(site: Any) -> Iterator[TestClient]:
    with TestClient(application(site.lake), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def lake(site: Any) -> Iterator[Any]:
    with loadlock.open(site.lake, read_only=True) as lake:
        yield lake


WAFER = {"tool": "P1", "wafer": "W1", "sensor": "PRESSURE", "step": "main"}


@pytest.mark.parametrize(
    ("path", "query", "wanted"),
    [
        ("/", {}, "Data quality by tool and day"),
        ("/tool", {"tool": "P1"}, "Control chart of"),
        ("/wafer", WAFER, "Sensors that moved"),
        ("/quarantine", {}, "Spans"),
        ("/ledger", {"action": "ingest"}, "ingest"),
        ("/circuits", {}, "Circuits"),
        ("/sql", {}, "textarea"),
    ],
)
def test_pages_answer_with_landmarks_and_headers(client: TestClient, path: str, query: dict[str, str], wanted: str) -> None:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    assert wanted in answer.text
    for part in ('<html lang="en">', '<main id="main"', "<nav aria-label=", "<h1>", 'class="skip"', "<title>"):
        assert part in answer.text
    for ident in re.findall(r'<(?:input|select|textarea) id="(\w+)"', answer.text):
        assert f'<label for="{ident}">' in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)
    if path != "/sql":
        assert client.post(path).status_code == 405


def test_all_pages_are_tested() -> None:
    assert set(PAGES) == {"/", "/tool", "/wafer", "/trace", "/quarantine", "/ledger", "/circuits", "/sql"}


def test_from_a_point_to_the_bytes_of_its_message(client: TestClient, site: Any, lake: Any) -> None:
    figure = client.get("/overlay", params=WAFER).json()
    line = figure["data"][-1]
    trace, seq, at_us = line["meta"]["trace"], line["customdata"][0], line["meta"]["start_us"] + round(line["x"][0] * 1e6)
    assert (figure["drill"]["names"], figure["drill"]["clock"]) == (["seq"], "at_us")
    page = client.get("/trace", params={"tool": "P1", "trace": trace, "seq": seq, "at_us": at_us}).text
    row = next(row for row in site.rows(range(2)) if f",{seq // 1_000_000 % 86400}," in row or ",W1,main," in row)
    assert row in page.replace("&#x27;", "'")
    assert row.encode()[:16].hex(" ") in page
    ((window,),) = lake.sql("SELECT window_id FROM windows WHERE wafer = 'W1' AND step = 'main'").fetchall()
    moved = client.get("/window", params={"window": window, "sensor": "PRESSURE"}, follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (303, "/wafer?tool=P1&wafer=W1&step=main&sensor=PRESSURE")


def test_a_zoom_gets_the_samples_of_its_stretch(client: TestClient) -> None:
    whole = client.get("/overlay", params=WAFER).json()
    part = client.get("/overlay", params=WAFER | {"from": "2", "to": "4"}).json()
    assert part["samples"] < whole["samples"]
    assert {x for line in part["data"] for x in line["x"]} == {2.0, 3.0, 4.0}
    assert client.get("/overlay", params=WAFER | {"from": "soon", "to": "4"}).status_code == 404
    assert client.get("/overlay", params=WAFER | {"from": "nan", "to": "4"}).status_code == 404


def test_quarantine_shows_reason_and_bytes(client: TestClient, lake: Any) -> None:
    ((reason,),) = lake.sql("SELECT reason FROM quarantine").fetchall()
    assert client.get("/quarantine", params={"reason": reason}).text.count("/quarantine?id=") == 1
    ident = re.findall(r"/quarantine\?id=([^\"]+)", client.get("/quarantine", params={"tool": "P1", "state": "open"}).text)[0]
    page = client.get("/quarantine", params={"id": ident}).text
    assert b"P1,A,soon".hex(" ") in page
    assert f"<td>{reason}</td>" in page
    assert "none." in client.get("/quarantine", params={"reason": "no such"}).text
    assert client.get("/quarantine", params={"id": "no such"}).status_code == 404


def test_metrics_and_assets(client: TestClient) -> None:
    assert "loadlock_payloads_total 2" in client.get("/metrics").text
    for name in ("plotly.js", "console.js", "console.css"):
        assert client.get(f"/assets/{name}").status_code == 200
        assert "immutable" in client.get(f"/assets/{name}").headers["cache-control"]
    assert client.get("/").headers["cache-control"] == "no-store"
    assert client.get("/assets/plotly.js").headers["content-encoding"] == "gzip"
    assert client.get("/assets/console.py").status_code == 404
    assert client.get("/assets/..%2fapp.py").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "", "localhost.evil.example", "127.0.0.1.evil.example:8600"])
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 421
    assert client.get("/", headers={"host": "[::1]:8600"}).status_code == 200


def test_other_sites_get_nothing(client: TestClient) -> None:
    away = {"sec-fetch-site": "cross-site"}
    assert client.post("/sql", data={"q": "select 1"}, headers=away | {"sec-fetch-mode": "navigate"}).status_code == 403
    assert client.get("/overlay", headers=away | {"sec-fetch-mode": "cors"}).status_code == 403
    assert client.get("/", headers=away | {"sec-fetch-mode": "navigate"}).status_code == 200


def test_the_token_is_asked_for(site: Any) -> None:
    with TestClient(application(site.lake, token=TOKEN), base_url="http://localhost") as client:
        for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic !!"}, {"authorization": "Bearer"}):
            answer = client.get("/assets/console.css", headers=given)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic")
        assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/", auth=("anybody", TOKEN)).status_code == 200


def test_the_command_binds_elsewhere_only_with_a_token(site: Any, loadlock_command: Run, tmp_path: Path, monkeypatch: Any) -> None:
    import uvicorn

    monkeypatch.delenv("LOADLOCK_TOKEN", raising=False)
    served: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: served.append(sockets[0].getsockname()))
    file = tmp_path / "token"
    file.write_text("short\n", encoding="utf-8")
    for options in (("--host", "0.0.0.0"), ("--host", "fab.example"), ("--token-file", file), ("--token-file", tmp_path / "none")):
        assert loadlock_command("serve", *options, "--lake", site.lake).code == 2
    assert loadlock_command("serve", "--lake", tmp_path / "no.lake").code == 2
    assert served == []
    file.write_text(TOKEN, encoding="utf-8")
    answer = loadlock_command("serve", "--port", 0, "--lake", site.lake)
    assert (answer.code, f"http://127.0.0.1:{served[0][1]}/" in answer.err) == (0, True)
    assert loadlock_command("serve", "--port", 0, "--host", "0.0.0.0", "--token-file", file, "--lake", site.lake).code == 0
    assert [address for address, _ in served] == ["127.0.0.1", "0.0.0.0"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = loadlock_command("serve", "--port", taken.getsockname()[1], "--lake", site.lake)
    assert (answer.code, "--port N" in answer.err, "http" in answer.err) == (5, True, False)


REFUSED = [
    "COPY (SELECT 1) TO '{data}/x.csv'",
    "ATTACH ':memory:' AS m",
    "ATTACH '{lake}/catalog.sqlite' AS s (TYPE sqlite)",
    "INSTALL json",
    "LOAD json",
    "SET threads = 4",
    "INSERT INTO lake.main.ledger SELECT * FROM lake.main.ledger",
    "CREATE TABLE t (i INT)",
    "DROP VIEW traces",
    "SELECT 1; SELECT 2",
    "EXPORT DATABASE '{data}/x'",
    "CALL ducklake_expire_snapshots('lake')",
    "PRAGMA database_list",
    "EXPLAIN ANALYZE SELECT 1",
    "BEGIN",
    "",
    "nonsense",
    "FROM read_text('/etc/passwd')",
    "FROM read_parquet('{data}/**')",
    "FROM READ_BLOB('{lake}/lake.json')",
    "FROM '/etc/passwd'",
    "FROM glob('/*')",
    "FROM '{lake}/lake.json'",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH a AS (FROM read_csv('/etc/passwd')) FROM a",
    "FROM query('select 1')",
    "FROM sqlite_scan('{lake}/catalog.sqlite', 'ducklake_snapshot')",
    "FROM ducklake_cleanup_old_files('lake', cleanup_all => true)",
    "FROM ducklake_delete_orphaned_files('lake', cleanup_all => true)",
    "FROM checkpoint('lake')",
    "FROM json_execute_serialized_sql('')",
    "FROM pandas_scan(1)",
    "SELECT * FROM (VALUES (1)) t WHERE 1 IN (SELECT 1 FROM system.main.read_text('/etc/passwd'))",
]


@pytest.mark.parametrize("query", REFUSED)
def test_the_box_refuses(lake: Any, query: str) -> None:
    before = sorted(path.name for path in lake.store.path.rglob("*"))
    with pytest.raises(UsageError):
        sqlbox.run(lake.store, query.format(lake=lake.store.path, data=lake.store.data))
    assert sorted(path.name for path in lake.store.path.rglob("*")) == before


def test_the_box_answers_within_limits(lake: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sqlbox.run(lake.store, "SELECT count(*) FROM samples").rows == [(120,)]
    assert sqlbox.run(lake.store, "SELECT sum(value) IS NOT NULL FROM traces").rows == [(True,)]
    assert sqlbox.run(lake.store, "FROM spc('P1', 'PRESSURE')").rows
    found = sqlbox.run(lake.store, "FROM range(5000)")
    assert (len(found.rows), found.more) == (sqlbox.ROWS, True)
    with pytest.raises(UsageError, match="longer than"):
        sqlbox.run(lake.store, "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", seconds=0.3)
    monkeypatch.setattr(sqlbox, "MEMORY", "20MB")
    with pytest.raises(UsageError, match="Memory"):
        sqlbox.run(lake.store, "SELECT count(*) FROM (SELECT DISTINCT hash(range), range FROM range(5000000))")
    page = client.post("/sql", data={"q": "SELECT '<b>' AS \"<i>\", 'x' FROM range(2)"}).text
    assert "&lt;b&gt;" in page
    assert "<i>" not in page
    assert 'role="alert"' in client.post("/sql", data={"q": "FROM glob('*')"}).text
    assert client.post("/sql", data={"q": "x" * 200_000}).status_code == 404


def test_hostile_names_stay_text(polisher: Run, tmp_path: Path) -> None:
    site = polisher(tmp_path)
    rows = [
        row.replace("P1,", f"{HOSTILE},", 1).replace(",W", ",</td><script>W") for row in (*site.rows(range(3)), "P1,A,soon,W9,ramp,1,1")
    ]
    site.file("1.csv", rows)
    with loadlock.open(tmp_path / "fab.lake") as lake:
        lake.ingest(site.drop, config=site.config)
    with TestClient(application(tmp_path / "fab.lake"), base_url="http://localhost") as client:
        for path in PAGES:
            given = {"tool": HOSTILE, "wafer": "</td><script>W1", "trace": HOSTILE, "reason": HOSTILE, "step": "main", "action": HOSTILE}
            text = client.get(path, params=given).text
            assert "<img" not in text, path
            assert "<script>W" not in text, path
        assert "&lt;img" in client.get("/").text
        assert client.get("/tool", params={"tool": HOSTILE}).status_code == 200


@pytest.mark.parametrize("path", ["/nowhere", "/tool?tool=P9", "/tool", "/wafer?tool=P1&wafer=W99", "/wafer?tool=P9", "/window?window=99"])
def test_what_is_not_there_is_a_page_that_says_so(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "That is not there" in answer.text
    assert '<nav aria-label="Pages">' in answer.text
    assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]


def test_an_empty_lake_says_what_to_do(tmp_path: Path) -> None:
    loadlock.open(tmp_path / "empty.lake").close()
    with TestClient(application(tmp_path / "empty.lake"), base_url="http://localhost") as client:
        assert "loadlock ingest" in client.get("/").text
        for path in ("/quarantine", "/ledger", "/circuits", "/sql", "/metrics"):
            assert client.get(path).status_code == 200


def test_a_large_cell_does_not_make_a_large_page(client: TestClient) -> None:
    page = client.post("/sql", data={"q": "SELECT repeat('x', 5000000) AS a, [repeat('y', 3000)] AS b, repeat('z', 9)::BLOB AS c"}).text
    assert len(page) < 10_000
    assert "(5,000,000 in all)" in page
    assert "7a 7a" in page


def test_deep_nesting_is_refused_and_no_bug(lake: Any) -> None:
    for depth in (100, 700):
        with pytest.raises(UsageError):
            sqlbox.run(lake.store, f"SELECT {'list_value(' * depth}1{')' * depth} FROM nowhere", seconds=5)
