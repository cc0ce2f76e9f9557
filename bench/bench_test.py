# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""A bench that flatters is worse than none: these tests hold the runner's arithmetic, the verdicts, the report's blocks,
and the bytes that the echo chain carries."""

import json
import os
import socket
import struct
import subprocess
import sys

import pytest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

# pylint: disable=wrong-import-position
import iscsi
import load
import pair
import processes
import tables
import targets

CHAIN = os.environ.get("ECHO_CHAIN", "")


def result_with(scenario, **iops):
    rows = {side: [{"iops": value} for value in values] for side, values in iops.items()}
    return {"throughput": {scenario: rows}, "machine": {}, "when": "", "command": "",
            "settings": {"rounds": 1, "seconds": 1}}


def verdict(result, start):
    found = [row for row in targets.judge(result) if row["what"].startswith(start)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("ours, reached", [(11000, True), (9300, True), (9200, False)])
def test_time_of_the_limit_is_a_ratio_of_times_not_of_iops(ours, reached):
    row = verdict(result_with("raw-write-1", holdfast=[ours], chain=[12000]), "1 in flight, blocking client")
    assert row["found"] == pytest.approx(12000 / ours)
    assert row["reached"] is reached


@pytest.mark.parametrize("ours, reached", [(59000, False), (61000, True)])
def test_nbdkit_ratio_is_ours_over_theirs(ours, reached):
    result = result_with("write-32", holdfast=[ours], nbdkit=[100000])
    assert verdict(result, "32 in flight: IOPS of nbdkit")["reached"] is reached


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    result = result_with("write-32", holdfast=[10, 100, 30], nbdkit=[10, 10, 10])
    assert verdict(result, "32 in flight: IOPS of nbdkit")["found"] == pytest.approx(3.0)


def test_the_copy_costs_what_the_rounds_say_and_the_worst_case_counts():
    def row(**figures):
        return [{"p50_us": value, "p99_us": value} for value in figures["p50"]]
    result = {"copy_hosts": {"copy-write-1": {"on": row(p50=[104, 300, 103]), "off": row(p50=[100, 100, 100])}},
              "copy_behind": [{"share": 0.5}, {"share": 1.2}], "copy_link": [{"share": 0.95}, {"share": 0.89}]}
    found = {row["what"]: row for row in targets.judge(result, targets.COPY_TARGETS)}
    assert found["copy on, 1 in flight: p50 to that without"]["found"] == pytest.approx(1.04)
    assert found["copy on, 1 in flight: p50 to that without"]["reached"] is True
    assert [row["reached"] for what, row in found.items() if "worst" in what] == [False, False]


def test_nothing_measured_is_neither_reached_nor_missed():
    for row in targets.judge({}):
        assert row["found"] is None and row["reached"] is None


@pytest.mark.parametrize("how, ms, reached", [("kill", 200, True), ("kill", 201, False), ("stop", 1501, False)])
def test_takeover_bounds(how, ms, reached):
    start = "takeover after kill" if how == "kill" else "takeover after SIGSTOP"
    assert verdict({"takeover": {how: [{"ms": ms}]}}, start)["reached"] is reached


def test_fio_result_takes_the_direction_that_ran_and_skips_what_fio_says_first():
    text = ('fio: connected to NBD server\n{"jobs": [{"error": 0, "read": {"total_ios": 0, "iops": 0}, "write": '
            '{"total_ios": 9, "iops": 3.5, "bw_bytes": 2000000, "lat_ns": {"mean": 5000, '
            '"percentile": {"50.000000": 4000, "99.000000": 8000}}}}]}')
    found = load.fio_result(text)
    assert (found["iops"], found["mb_per_s"], found["p50_us"], found["p99_us"]) == (3.5, 2.0, 4.0, 8.0)
    with pytest.raises(processes.BenchError):
        load.fio_result(text.replace('"error": 0', '"error": 5'))


def test_counters_are_found_at_any_depth_and_absence_is_seen():
    status = {"status": {"volumes": [{"name": "bench", "counters": {"writes": 7}}], "sent": {"stream": {"batches": 0}}}}
    assert pair.find(status, "volumes", "writes") == 7
    assert pair.find(status, "sent", "batches") == 0
    assert pair.find(status, "sent", "writes") is None


def test_report_fills_the_document_and_refuses_a_block_it_does_not_know(tmp_path):
    document, figures = tmp_path / "p.md", tmp_path / "r.json"
    with open(os.path.join(HERE, "..", "docs", "performance.md"), encoding="utf-8") as file:
        document.write_text(file.read())
    figures.write_text(json.dumps({"format": 1, **result_with("write-1", holdfast=[4321], chain=[5000])}))
    command = [sys.executable, os.path.join(HERE, "report"), str(figures), str(document)]
    subprocess.run(command, check=True)
    once = document.read_text()
    assert "| 4,321 |" in once
    subprocess.run(command, check=True)
    assert document.read_text() == once
    document.write_text(once + "<!-- figures: invented -->\n<!-- end -->\n")
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode != 0 and "['invented']" in refused.stderr


def test_shipped_is_a_ratio_of_latencies_and_direct_one_of_iops():
    result = {"iscsi": {"iscsi-write-1": {"direct": [{"iops": 9000, "mean_us": 100}], "tgtd": [{"iops": 10000}],
                                          "shipped": [{"iops": 4000, "mean_us": 210}]}}}
    row = verdict(result, "iSCSI, shipped writes")
    assert row["found"] == pytest.approx(2.1) and row["reached"] is False
    row = verdict(result, "iSCSI, writes, 1 in flight")
    assert row["found"] == pytest.approx(0.9) and row["reached"] is True


def test_iscsi_tables_leave_out_what_a_client_does_not_tell():
    result = {"iscsi": {"iscsi-perf-32": {"tgtd": [iscsi.perf_result("iops average 5 (1 MB/s)\riops average 77 (2")]}}}
    head, rows = tables.hosts(result, "iscsi-perf-32")
    assert len(head) == len(rows[0]) == 3 and rows[0][1] == "77"
    result = {"iscsi": {"iscsi-read-1": {"shipped": [{"iops": 7, "mb_per_s": 1, "p50_us": 2, "p99_us": 3,
                                                      "server_cpu_us": 4}]}}}
    head, rows = tables.hosts(result, "iscsi-read-1")
    assert len(head) == len(rows[0]) == 7 and "shipped" in rows[0][0]


def free_ports():
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def receive(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def handshake(sock):
    receive(sock, 18)
    sock.sendall(struct.pack(">I8sIIIH", 3, b"IHAVEOPT", 7, 6, 0, 0))
    while struct.unpack(">QIII", head := receive(sock, 20))[2] != 1:
        receive(sock, struct.unpack(">QIII", head)[3])


def write_request(handle):
    return struct.pack(">IHHQQI", 0x25609513, 0, 1, handle, 4096 * handle, 4096) + bytes(4096)


@pytest.fixture(name="chain", params=[[], ["--single"]], ids=["batched", "single"])
def chain_fixture(request, tmp_path):
    ports = free_ports()
    servers = processes.Processes(str(tmp_path / "log"))
    try:
        servers.start([CHAIN, *ports, *request.param], 0)
        servers.wait_for(("127.0.0.1", ports[0]))
        yield ports
    finally:
        servers.stop()


def test_the_chain_answers_each_write_once_and_ends_a_connection_that_reads(chain):
    with socket.create_connection(("127.0.0.1", chain[0]), timeout=5) as host:
        handshake(host)
        host.sendall(write_request(7))
        assert receive(host, 16) == struct.pack(">IIQ", 0x67446698, 0, 7)
        host.sendall(b"".join(write_request(i) for i in range(5)))
        replies = receive(host, 5 * 16)
        assert [struct.unpack_from(">IIQ", replies, 16 * i)[2] for i in range(5)] == [0, 1, 2, 3, 4]
        host.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 4096))
        with pytest.raises((EOFError, ConnectionError)):
            receive(host, 16)


def test_the_second_hop_answers_48_bytes_only_when_the_whole_message_is_there(chain):
    message = bytes(4) + struct.pack(">I", 148 + 4096) + bytes(140 + 4096)
    with socket.create_connection(("127.0.0.1", chain[1]), timeout=5) as peer:
        peer.sendall(message[:-1])
        peer.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(5)
        peer.sendall(message[-1:])
        assert len(receive(peer, 48)) == 48
