"""The monitor as a user starts it: a real server, asked over a real socket."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import pytest
import uvicorn

from harness.clock import SYSTEM_CLOCK
from harness.monitor.app import make_app
from harness.monitor.folder import Listing, ReportFolder
from harness.reports.table import format_duration

COMMAND = Path(sys.executable).with_name("lakegauge")


class Page(HTMLParser):
    """What a browser makes of the page, as far as the promises here go."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


def test_every_endpoint_answers_with_what_the_folder_holds(serve, reports):
    reports.save(reports.record("test_a"), reports.record("test_b"))
    reports.save(
        reports.record("test_a", scale=2.0, facts={"target": "embedded"}),
        failed=["benchmarks/test_x.py::test_b"],
        smoke=True,
    )
    server = serve(reports.folder)

    assert server.get("/livez").json() == {"status": "ok"}
    index = server.get("/").json()
    assert index["name"] == "lakegauge"
    for link in index["links"].values():
        assert server.get(link).status == 200
    newest, oldest = server.get("/reports").json()["reports"]
    assert newest == {
        "label": "0002",
        "path": "Linux-CPython-3.11-64bit/0002_x.json",
        "started_at": "2026-01-01T02:00:00Z",
        "complete": True,
        "state": "complete",
        "smoke": True,
        "cases_count": 1,
        "failed_count": 1,
    }
    assert (oldest["label"], oldest["cases_count"]) == ("0001", 2)
    detail = server.get("/reports/0002").json()
    assert detail["failed"] == {"benchmarks/test_x.py::test_b": "failed in call"}
    (case,) = detail["cases"]
    assert case["fullname"] == "benchmarks/test_x.py::test_a"
    assert (case["group"], case["measure"]) == ("g", "ttft")
    assert case["p50_s"] == pytest.approx(0.401)
    assert (case["throughput_per_s"], case["errors_count"]) == (200.0, 0)
    assert case["facts"] == {"target": "embedded"}
    for path in ("/reports/0009", "/dashboard?run=0009", "/static/app.py"):
        answer = server.get(path)
        assert answer.status == 404
        assert list(answer.json()) == ["detail"]


def test_every_json_response_has_a_model_in_the_schema(serve, reports):
    schema = serve(reports.folder).get("/openapi.json").json()
    for path in ("/livez", "/", "/reports", "/reports/{label}"):
        content = schema["paths"][path]["get"]["responses"]["200"]["content"]
        assert "$ref" in content["application/json"]["schema"], path


def test_dashboard_shows_the_run_beside_its_baseline(serve, reports):
    reports.save(reports.record("test_a", scale=1.0))
    reports.save(reports.record("test_a", scale=5.0), cpu_count=64)
    reports.save(reports.record("test_a", scale=2.0))
    page = Page(serve(reports.folder).get("/dashboard").text)

    assert "Run 0003" in page.words
    assert "beside baseline 0001" in page.words, "0002 is of another machine class"
    assert "No verdict: one run a side" in page.words
    for shown in (format_duration(0.401), format_duration(0.2005), "+100.0 %"):
        assert shown in page.words
    bars = [a for t, a in page.tags if t == "rect"]
    widths = {a["class"]: float(a["width"]) for a in bars}  # the last row is p99
    assert widths == {"bar-now": 100.0, "bar-before": 50.0}


def test_dashboard_is_live_while_a_run_is_in_progress(serve, reports):
    reports.save(*(reports.record(f"test_{name}") for name in "abc"))
    server = serve(reports.folder)
    journal = reports.journal(reports.record("test_a"), clock=SYSTEM_CLOCK)

    first = Page(server.get("/dashboard").text).words
    assert "running now" in first
    assert "1 of 3 cases" in first
    journal.add(reports.record("test_b"))
    assert "2 of 3 cases" in Page(server.get("/dashboard").text).words
    summary = server.get("/reports").json()["reports"][0]
    assert summary["label"] == journal.path.stem
    assert (summary["state"], summary["complete"]) == ("running", False)
    assert summary["cases_count"] == 2

    journal.discard()
    assert "Run 0001" in Page(server.get("/dashboard").text).words


def test_what_a_killed_run_left_is_shown_as_interrupted(serve, reports):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    reports.journal(reports.record(), pid=ended.pid)
    reports.save(reports.record())
    server = serve(reports.folder)
    newest, killed = server.get("/reports").json()["reports"]
    assert killed["state"] == "interrupted"
    words = Page(server.get("/dashboard").text).words
    assert "no earlier report may be compared" in words, "a killed run is no baseline"
    label = killed["label"]
    assert "interrupted" in Page(server.get(f"/dashboard?run={label}").text).words
    assert newest["state"] == "complete"


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_nothing_a_report_holds_becomes_markup(serve, reports):
    facts = {HOSTILE: HOSTILE}
    record = reports.record(HOSTILE, group=HOSTILE, facts=facts, failed={HOSTILE: 1})
    reports.save(record, failed=[HOSTILE], cpu_brand=HOSTILE)
    reports.save(record, name=HOSTILE.replace("/", "_"), cpu_brand=HOSTILE)
    reports.write("{", name=f"{HOSTILE.replace('/', '_')}.json")
    server = serve(reports.folder)
    answer = server.get("/dashboard")
    page = Page(answer.text)

    assert page.words.count(HOSTILE) > 5, "it is shown, as text"
    assert [a.get("src") for t, a in page.tags if t == "script"] == [
        "/static/dashboard.js",
        "/static/uplot.js",
        "/static/live.js",
    ]
    assert {a.get("src") for t, a in page.tags if t == "img"} == {"/static/icon.svg"}
    attributes = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in attributes if name.startswith("on")}
    assert "style" not in attributes, "the policy would refuse it"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert server.get("/reports").headers["content-type"] == "application/json"


def test_the_page_loads_nothing_from_elsewhere(serve, reports):
    reports.save(reports.record(facts={"a": "b"}))
    server = serve(reports.folder)
    page = Page(server.get("/dashboard").text)
    named = [a[k] for _, a in page.tags for k in ("src", "href") if k in a]
    assert "/static/dashboard.css" in named
    for name in named:
        assert re.match(r"/(static|dashboard)\b", name), name
        assert server.get(name).status == 200
    style = server.get("/static/dashboard.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_unreadable_reports_are_named_and_the_rest_is_shown(serve, reports):
    good = reports.save(reports.record())
    text = good.read_text()
    document = json.loads(text)
    reports.write(text[: len(text) // 2], name="0002_cut.json")
    reports.write(text.replace("200.0", "NaN"), name="0003_nan.json")
    reports.write(text.replace("200.0", "1e999"), name="0004_infinite.json")
    reports.write("[" * 100_000, name="0005_deep.json")
    reports.write(text.replace('"test_a"', '["test_a"]'), name="0006_list.json")
    plain = {k: v for k, v in document.items() if k != "lakegauge"}
    reports.write(json.dumps(plain), name="0007_plain.json")
    with reports.write("", name="0008_huge.json").open("r+b") as file:
        file.truncate(10**10)
    reports.write(text.replace('"test_a"', '"\\ud800\\u001b[2J"'), name="0009_odd.json")
    text_quantile = document["benchmarks"][0]["stats"] | {"p50": "0.1"}
    document["benchmarks"][0]["stats"] = text_quantile
    reports.write(json.dumps(document), name="0010_text.json")
    server = serve(reports.folder)

    answer = server.get("/reports").json()
    assert {report["label"] for report in answer["reports"]} == {"0001", "0009"}
    for name in ("0002", "0003", "0004", "0005", "0006", "0007", "0008", "0010"):
        notes = [note for note in answer["notes"] if f"/{name}_" in note]
        assert len(notes) == 1, name
        assert notes[0] in Page(server.get("/dashboard").text).words
    (odd,) = server.get("/reports/0009").json()["cases"]
    assert odd["name"] == "\N{REPLACEMENT CHARACTER}" * 2 + "[2J"
    assert server.get("/dashboard?run=0009").status == 200


def test_an_empty_folder_says_what_to_do(serve, reports):
    words = Page(serve(reports.folder).get("/dashboard").text).words
    assert "Nothing measured yet" in words
    assert "make bench" in words


def test_numbers_shared_by_two_machines_become_paths(serve, reports):
    reports.save(reports.record())
    reports.save(reports.record(), machine_id="Other")
    server = serve(reports.folder)
    labels = {report["label"] for report in server.get("/reports").json()["reports"]}
    assert labels == {"Linux-CPython-3.11-64bit/0001_x", "Other/0001_x"}
    assert server.get("/reports/Other/0001_x").json()["cases_count"] == 1
    assert server.get("/reports/../../../etc/passwd").status == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_only_the_names_of_this_machine_are_answered(serve, reports, host):
    """A page elsewhere may resolve its own name to 127.0.0.1 and read the answers."""
    server = serve(reports.folder)
    answer = server.get("/reports", Host=host)
    assert answer.status == 421
    assert list(answer.json()) == ["detail"]
    for own in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert server.get("/reports", Host=own).status == 200


def test_a_slow_disk_does_not_stop_other_answers(reports, monkeypatch):
    """Reports are read on threads: the event loop goes on answering."""
    reading, may_go_on = threading.Event(), threading.Event()

    def wait_for_disk(_folder):
        reading.set()
        assert may_go_on.wait(30)
        return Listing(runs=(), notes=())

    monkeypatch.setattr(ReportFolder, "listing", wait_for_disk)
    # Not proxied: the address is this machine's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(make_app(reports.folder)))
        with ThreadPoolExecutor(2) as threads:
            ended = threads.submit(server.run, sockets=[listener])
            try:
                slow = threads.submit(opener.open, f"{base}/reports", timeout=30)
                assert reading.wait(30)
                with opener.open(f"{base}/livez", timeout=10) as answer:
                    assert answer.status == 200
                assert not slow.done()
                may_go_on.set()
                slow.result().close()
            finally:
                may_go_on.set()
                server.should_exit = True
            ended.result(30)


def test_ctrl_c_ends_it_without_noise(serve, reports):
    server = serve(reports.folder)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=20) == 0


def run(*arguments):
    return subprocess.run(
        [COMMAND, "monitor", "serve", *arguments],
        env=os.environ | {"COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_any_other_address_is_refused(reports, host):
    reports.folder.mkdir()
    done = run(f"--host={host}", f"--reports={reports.folder}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"lakegauge: --host {host}: ")
    assert "ssh -L" in done.stderr


def test_a_port_that_is_taken_is_named(reports):
    reports.folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(f"--port={port}", f"--reports={reports.folder}")
    assert done.returncode == 2
    assert f"--port {port}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    done = run(f"--reports={tmp_path / 'typo'}")
    assert done.returncode == 2
    assert "typo" in done.stderr
