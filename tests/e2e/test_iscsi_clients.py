# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""iSCSI hosts that were not written here: libiscsi's programs, QEMU's tools, and fio over QEMU's initiator, through the
controller that owns the volume and through the one that ships to it."""

import random
import re
import subprocess

import pytest

import qemufuse
from holdfast import KI, MI, Volume, run

SIZE = 64 * MI
PATHS = ("a", "b")  # all volumes here are a's


@pytest.fixture(scope="module")
def target(module_pair):
    return module_pair(iscsi=True, cache="64M", volumes=[Volume("alpha", size=SIZE),
                                                         Volume("wide", size=SIZE, block=4096)])


def pattern(length, seed):
    return random.Random(seed).randbytes(length)


# ---- libiscsi's programs ----

@pytest.mark.parametrize("path", PATHS)
def test_discovery_lists_the_portals_of_both_controllers_with_their_groups(target, path):
    out = run("iscsi-ls", f"iscsi://{target.controller(path).portal()}").stdout
    for controller, group in ((target.a, 1), (target.b, 2)):
        for six in (False, True):
            assert f"{controller.portal(six)},{group}" in out, out
    assert target.target_name in out


@pytest.mark.parametrize("path", PATHS)
def test_the_luns_are_the_volumes_in_their_order(target, path):
    out = run("iscsi-ls", "-s", f"iscsi://{target.controller(path).portal()}").stdout
    for lun in (0, 1):
        assert re.search(rf"Lun:{lun} +Type:DIRECT_ACCESS", out), out
    assert "Lun:2" not in out


def test_a_portal_on_IPv6_serves(target):
    assert "DIRECT_ACCESS" in run("iscsi-inq", target.b.iscsi_url("alpha", six=True)).stdout


@pytest.mark.parametrize("path", PATHS)
def test_iscsi_inq_shows_a_disk_with_both_kinds_of_ALUA(target, path):
    out = run("iscsi-inq", target.controller(path).iscsi_url("alpha")).stdout
    assert "Peripheral Device Type:DIRECT_ACCESS" in out and "TPGS:3" in out and "CmdQue:1" in out, out
    assert re.search(r"Vendor:HOLDFAST", out, re.IGNORECASE), out


@pytest.mark.parametrize("page", ["0x80", "0xb0", "0xb1", "0xb2"])
def test_pages_of_the_volume_are_the_same_through_both(target, page):
    said = [run("iscsi-inq", "-e", "1", "-c", str(int(page, 16)), target.controller(path).iscsi_url("alpha")).stdout
            for path in PATHS]
    assert said[0] == said[1] and said[0].strip()


@pytest.mark.parametrize("volume, block", [("alpha", 512), ("wide", 4096)])
def test_the_capacity_is_the_volumes_in_its_blocks_of_4096_physical(target, volume, block):
    out = run("iscsi-readcapacity16", target.b.iscsi_url(volume)).stdout
    assert f"LOGICAL BLOCK LENGTH IN BYTES:{block}" in out
    assert f"RETURNED LOGICAL BLOCK ADDRESS:{SIZE // block - 1}" in out
    exponent = {512: 3, 4096: 0}[block]
    assert f"LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT:{exponent}" in out


def test_software_write_protection_set_through_one_controller_holds_at_the_other(target):
    urls = [target.controller(path).iscsi_url("alpha") for path in PATHS]
    try:
        run("iscsi-swp", "-s", "on", urls[0])
        for url in urls:
            assert run("iscsi-swp", url).stdout.strip().endswith("SWP:1")
            refused = run("qemu-io", "-f", "raw", "-c", "write 0 4k", url, check=False).stdout
            assert not re.search(r"wrote 4096/4096", refused), refused
    finally:
        run("iscsi-swp", "-s", "off", urls[1])
    assert run("iscsi-swp", urls[0]).stdout.strip().endswith("SWP:0")
    assert "wrote 4096/4096" in run("qemu-io", "-f", "raw", "-c", "write 0 4k", urls[0]).stdout


@pytest.mark.parametrize("path", PATHS)
def test_iscsi_perf_runs_to_its_end(target, path):
    """On a busy machine its look at the clock may come a second late; then it takes the time left, below zero, for 10^17
    hours. That run is ended and begun again."""
    url = target.controller(path).iscsi_url("alpha")
    for _ in range(5):
        process = subprocess.Popen(["iscsi-perf", "-m", "32", "-b", "8", "-r", "-t", "2", url], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            out, _ = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        if not re.search(r"\d{9,}:\d\d:\d\d", out):
            break
    assert int(re.findall(r"iops average (\d+)", out)[-1]) > 0 and "finished" in out, out[-500:]


# ---- QEMU's tools ----

@pytest.mark.parametrize("volume", ["alpha", "wide"])
@pytest.mark.parametrize("path", PATHS)
def test_qemu_img_converts_through_one_and_compares_through_the_other(target, path, volume, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(pattern(SIZE // 2, path) + bytes(SIZE // 4) + pattern(SIZE // 4, volume))
    here = target.controller(path)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, here.iscsi_url(volume))
    there = target.other(here).iscsi_url(volume)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, there).stdout
    back = tmp_path / "back"
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", there, back)
    assert back.read_bytes() == source.read_bytes()
    run("qemu-io", "-f", "raw", "-c", f"write -P 0x5a {33 * MI} 4k", there)
    differ = run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, here.iscsi_url(volume), check=False)
    assert differ.returncode == 1 and "mismatch" in differ.stdout.lower()


@pytest.mark.parametrize("path", PATHS)
def test_qemu_img_bench(target, path):
    url = target.controller(path).iscsi_url("alpha")
    for extra in (["-w"], ["-w", "--flush-interval=32"], []):
        run("qemu-img", "bench", "-f", "raw", "-t", "none", "-c", "2000", "-d", "32", "-s", "4096", *extra, url)


@pytest.mark.parametrize("path", PATHS)
def test_qemu_io_patterns_on_odd_boundaries(target, path):
    here = target.controller(path)
    run("qemu-io", "-f", "raw", "-c", "write -P 0x11 0 1M", "-c", "write -P 0x22 4608 512", "-c", "write -P 0x33 100k 3k",
        "-c", "write -z 200k 12k", "-c", "discard 300k 64k", "-c", "write -f -P 0x44 512k 4k", "-c", "flush",
        "-c", "aio_write -P 0x55 600k 64k", "-c", "aio_write -P 0x66 700k 64k", "-c", "aio_flush",
        here.iscsi_url("alpha"))
    for reader in (here, target.other(here)):
        out = run("qemu-io", "-f", "raw", "-c", "read -P 0x11 0 4608", "-c", "read -P 0x22 4608 512",
                  "-c", "read -P 0x11 5120 97280", "-c", "read -P 0x33 100k 3k", "-c", "read -P 0 200k 12k",
                  "-c", "read -P 0x44 512k 4k", "-c", "read -P 0x55 600k 64k", "-c", "read -P 0x66 700k 64k",
                  reader.iscsi_url("alpha")).stdout
        assert "verification failed" not in out and out.count("read ") == 8, out


def test_iSCSI_and_NBD_hosts_see_each_others_writes(target):
    run("qemu-io", "-f", "raw", "-c", "write -P 0x71 1M 64k", target.b.iscsi_url("alpha"))
    handle = target.a.connect("alpha")
    assert handle.pread(64 * KI, MI) == b"\x71" * 64 * KI
    handle.pwrite(b"\x72" * 64 * KI, 2 * MI)
    handle.shutdown()
    out = run("qemu-io", "-f", "raw", "-c", "read -P 0x72 2M 64k", target.b.iscsi_url("alpha")).stdout
    assert "verification failed" not in out


# ---- fio, over QEMU's initiator ----

@pytest.mark.parametrize("path", PATHS)
def test_fio_verifies_what_it_wrote(target, path, tmp_path):
    if qemufuse.usable():
        pytest.skip(qemufuse.usable())
    lun = qemufuse.LunFile(tmp_path, target.controller(path).iscsi_url("alpha"), SIZE)
    try:
        run("fio", "--name=verify", f"--filename={lun.path}", "--ioengine=libaio", "--rw=randwrite", "--bsrange=512-64k",
            f"--size={SIZE // 2}", "--io_size=24M", "--iodepth=16", "--verify=crc32c",
            "--verify_fatal=1", "--do_verify=1", "--minimal", cwd=tmp_path)
    finally:
        lun.end()
