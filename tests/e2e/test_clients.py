# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""Clients that were not written here: what nbdinfo, nbdcopy, qemu-io, qemu-img, fio and libnbd see of a volume."""

import errno
import json
import os
import random
import re

import nbd
import pytest

from holdfast import KI, MI, run, volume_status, wait_for


def pattern(length, seed):
    return random.Random(seed).randbytes(length)


# ---- nbdinfo ----

def test_every_volume_is_listed_on_both_controllers(shared_pair):
    for controller in (shared_pair.a, shared_pair.b):
        # nbdinfo asks about each export that it was told of, also those that the other controller owns.
        listed = run("nbdinfo", "--list", "--no-content", f"nbd://127.0.0.1:{controller.nbd}").stdout
        for name in shared_pair.volumes:
            assert f'export="{name}"' in listed, listed
        handle = nbd.NBD()
        handle.set_opt_mode(True)
        handle.connect_tcp("127.0.0.1", str(controller.nbd))
        names = []
        handle.opt_list(lambda name, description: names.append(name) or 0)
        handle.opt_abort()
        assert sorted(names) == sorted(shared_pair.volumes)


def test_nbdinfo_says_what_the_server_can(shared_pair):
    uri = shared_pair.a.uri("alpha")
    assert int(run("nbdinfo", "--size", uri).stdout) == 16 * MI
    export = json.loads(run("nbdinfo", "--json", "--no-content", uri).stdout)["exports"][0]
    assert export["export-size"] == 16 * MI
    assert not export["is_read_only"]
    for can in ("can_flush", "can_fua", "can_trim", "can_zero", "can_df", "can_multi_conn"):
        assert export[can], can
    assert export["contexts"] == ["base:allocation"]
    assert (export["block_size_minimum"], export["block_size_preferred"], export["block_size_maximum"]) == \
        (1, 4096, 32 * MI)


def test_nbdinfo_map_covers_the_volume_and_shows_what_was_written(shared_pair):
    handle = shared_pair.b.connect("beta")
    handle.zero(16 * MI, 0)
    handle.pwrite(pattern(64 * KI, 1), 1 * MI)
    handle.shutdown()
    extents = json.loads(run("nbdinfo", "--map", "--json", shared_pair.b.uri("beta")).stdout)
    at = 0
    for extent in extents:
        assert extent["offset"] == at
        at += extent["length"]
        if extent["offset"] < 1 * MI + 64 * KI and at > 1 * MI:
            assert extent["type"] == 0, "a range in the cache is never called a hole"
    assert at == 16 * MI


@pytest.mark.parametrize("address", ["IPv6", "unix"])
def test_every_kind_of_address_serves(shared_pair, address):
    controller = shared_pair.a
    uri = f"nbd://[::1]:{controller.nbd}/alpha" if address == "IPv6" else controller.unix_uri("alpha")
    assert int(run("nbdinfo", "--size", uri).stdout) == 16 * MI


def test_an_export_that_is_not_there_is_refused(shared_pair):
    result = run("nbdinfo", "--size", shared_pair.a.uri("nosuch"), check=False)
    assert result.returncode != 0
    assert re.search(r"nosuch|unknown|exist|requested export", result.stdout), result.stdout


# ---- copies ----

def test_nbdcopy_there_and_back(shared_pair, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(pattern(48 * MI, 2) + bytes(8 * MI) + pattern(8 * MI, 3))
    uri = shared_pair.a.uri("image")
    run("nbdcopy", "--flush", source, uri)
    run("nbdcopy", "--connections=4", uri, back)
    assert source.read_bytes() == back.read_bytes()
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri).stdout


def test_qemu_img_converts_and_finds_a_difference(shared_pair, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(pattern(64 * MI, 4))
    uri = shared_pair.a.uri("image")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, uri)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri).stdout
    handle = shared_pair.a.connect("image")
    byte = handle.pread(1, 33 * MI + 77)
    handle.pwrite(bytes([byte[0] ^ 1]), 33 * MI + 77)
    handle.shutdown()
    differ = run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri, check=False)
    assert differ.returncode == 1 and "mismatch" in differ.stdout.lower()


def test_qemu_img_bench(shared_pair):
    for extra in (["-w"], ["-w", "--flush-interval=32"], []):
        run("qemu-img", "bench", "-f", "raw", "-c", "2000", "-d", "32", "-s", "4096", *extra,
            shared_pair.b.uri("beta"))


def test_qemu_io_patterns_on_odd_boundaries(shared_pair):
    uri = shared_pair.b.uri("beta")
    run("qemu-io", "-f", "raw", "-c", "write -P 0x11 0 1M", "-c", "write -P 0x22 4608 512", "-c", "write -P 0x33 100k 3k",
        "-c", "write -z 200k 12k", "-c", "discard 300k 64k", "-c", "write -f -P 0x44 512k 4k", "-c", "flush",
        "-c", "aio_write -P 0x55 600k 64k", "-c", "aio_write -P 0x66 700k 64k", "-c", "aio_flush", uri)
    out = run("qemu-io", "-f", "raw", "-c", "read -P 0x11 0 4608", "-c", "read -P 0x22 4608 512",
              "-c", "read -P 0x11 5120 97280", "-c", "read -P 0x33 100k 3k", "-c", "read -P 0 200k 12k",
              "-c", "read -P 0x44 512k 4k", "-c", "read -P 0x55 600k 64k", "-c", "read -P 0x66 700k 64k", uri).stdout
    assert "verification failed" not in out, out


def test_fio_verifies_what_it_wrote(shared_pair, tmp_path):
    run("fio", "--name=verify", "--ioengine=nbd", f"--uri={shared_pair.b.uri('beta')}", "--rw=randwrite",
        "--bsrange=512-16k", "--size=16M", "--io_size=24M", "--iodepth=32", "--verify=crc32c", "--verify_fatal=1",
        "--do_verify=1", "--lat_percentiles=1", "--minimal", cwd=tmp_path)


# ---- libnbd, request by request ----

@pytest.fixture
def handle(shared_pair):
    handle = shared_pair.a.connect("alpha", contexts=[nbd.CONTEXT_BASE_ALLOCATION])
    handle.set_strict_mode(0)
    yield handle
    handle.shutdown()


def refused(call, *numbers):
    with pytest.raises(nbd.Error) as error:
        call()
    assert error.value.errnum in numbers, error.value
    return error.value.errnum


def test_structured_replies_and_df(handle):
    assert handle.get_structured_replies_negotiated()
    data = pattern(128 * KI, 5)
    handle.pwrite(data, 12345)
    assert handle.pread(len(data), 12345, nbd.CMD_FLAG_DF) == data
    chunks = []

    def chunk(part, offset, status, error):
        chunks.append((offset, len(part), status))
        return 0

    assert handle.pread_structured(len(data), 12345, chunk, flags=nbd.CMD_FLAG_DF) == data
    assert len(chunks) == 1, "DF forbids more than one chunk"


def test_simple_replies_to_a_client_that_wants_no_others(shared_pair):
    handle = shared_pair.a.connect("alpha", structured=False)
    assert not handle.get_structured_replies_negotiated()
    data = pattern(8 * KI + 3, 6)
    handle.pwrite(data, 1 * MI + 1)
    assert handle.pread(len(data), 1 * MI + 1) == data
    handle.shutdown()


def test_fua_and_flush(handle):
    handle.pwrite(b"f" * 4096, 0, nbd.CMD_FLAG_FUA)
    handle.zero(4096, 4096, nbd.CMD_FLAG_FUA)
    handle.trim(4096, 8192, nbd.CMD_FLAG_FUA)
    handle.flush()
    assert handle.pread(8192, 0) == b"f" * 4096 + bytes(4096)


def test_block_status_of_zeroed_and_written_ranges(handle):
    handle.zero(1 * MI, 2 * MI)
    handle.pwrite(b"x", 2 * MI + 512 * KI)
    extents = []

    def extent(context, offset, entries, error):
        assert context == nbd.CONTEXT_BASE_ALLOCATION
        extents.append((offset, list(entries)))
        return 0

    offset = 2 * MI
    while offset < 3 * MI:
        before = len(extents)
        handle.block_status(3 * MI - offset, offset, extent)
        at, entries = extents[before]
        assert at == offset and len(entries) >= 2
        for length, flags in zip(entries[::2], entries[1::2]):
            assert length > 0
            if offset <= 2 * MI + 512 * KI < offset + length:
                assert flags & nbd.STATE_ZERO == 0, "a written byte is not called zero"
            offset += length
    before = len(extents)
    handle.block_status(1 * MI, 2 * MI, extent, nbd.CMD_FLAG_REQ_ONE)
    assert len(extents[before][1]) == 2, "REQ_ONE asks for one extent"


def test_trim_and_write_zeroes(handle):
    handle.pwrite(b"t" * (64 * KI), 4 * MI)
    handle.zero(20 * KI + 5, 4 * MI + 3, nbd.CMD_FLAG_NO_HOLE)
    assert handle.pread(64 * KI, 4 * MI) == b"t" * 3 + bytes(20 * KI + 5) + b"t" * (64 * KI - 20 * KI - 8)
    handle.trim(16 * KI, 4 * MI + 32 * KI)
    data = handle.pread(64 * KI, 4 * MI)
    assert data[:3] == b"ttt" and data[48 * KI:] == b"t" * (16 * KI)
    assert data[32 * KI:48 * KI] in (bytes(16 * KI), b"t" * (16 * KI))
    handle.pwrite(b"n" * 512, 4 * MI + 36 * KI)
    again = handle.pread(16 * KI, 4 * MI + 32 * KI)
    assert again[4 * KI:4 * KI + 512] == b"n" * 512
    assert again[:4 * KI] == data[32 * KI:36 * KI]
    handle.zero(16 * MI, 0)
    assert not any(handle.pread(16 * MI, 0))


def test_single_bytes_and_odd_ranges(handle):
    model = bytearray(64 * KI)
    handle.zero(len(model), 5 * MI)
    generator = random.Random(7)
    for _ in range(400):
        length = generator.choice([1, 2, 511, 512, 513, 4095, 4096, 4097, 9999])
        offset = generator.randrange(len(model) - length)
        if generator.random() < 0.6:
            data = generator.randbytes(length)
            handle.pwrite(data, 5 * MI + offset)
            model[offset:offset + length] = data
        elif generator.random() < 0.3:
            handle.zero(length, 5 * MI + offset)
            model[offset:offset + length] = bytes(length)
        else:
            assert handle.pread(length, 5 * MI + offset) == model[offset:offset + length]
    assert handle.pread(len(model), 5 * MI) == model
    last = 16 * MI - 1
    handle.pwrite(b"z", last)
    assert handle.pread(1, last) == b"z"


def test_requests_of_no_length_do_no_harm(handle):
    """The protocol leaves the meaning to the server; it may refuse, but must answer and stay in step."""
    for call in (lambda: handle.pwrite(b"", 0), lambda: handle.pread(0, 0), lambda: handle.trim(0, 0),
                 lambda: handle.zero(0, 0)):
        try:
            call()
        except nbd.Error as error:
            assert error.errnum == errno.EINVAL, error
    handle.pwrite(b"after", 100)
    assert handle.pread(5, 100) == b"after"


def test_requests_beyond_the_end_are_refused(handle):
    size = handle.get_size()
    data = b"e" * 4096
    refused(lambda: handle.pread(4096, size), errno.EINVAL)
    refused(lambda: handle.pread(2, size - 1), errno.EINVAL)
    refused(lambda: handle.pread(1, 2**63 - 1), errno.EINVAL)
    refused(lambda: handle.pwrite(data, size - 1), errno.ENOSPC)
    refused(lambda: handle.pwrite(data, 2**63 - 4096), errno.ENOSPC)
    refused(lambda: handle.trim(4096, size), errno.EINVAL, errno.ENOSPC)
    refused(lambda: handle.zero(2**32 - 512, 4096), errno.EINVAL, errno.ENOSPC)
    handle.pwrite(data, size - 4096)
    assert handle.pread(4096, size - 4096) == data


def test_a_request_of_32_MiB_is_served_and_a_larger_one_refused(shared_pair):
    handle = shared_pair.a.connect("image")
    handle.set_strict_mode(0)
    data = pattern(32 * MI, 8)
    handle.pwrite(data, 11 * MI)
    assert handle.pread(32 * MI, 11 * MI) == data
    refused(lambda: handle.pwrite(bytes(32 * MI + 512), 0), errno.EINVAL, errno.EOVERFLOW)
    refused(lambda: handle.pread(32 * MI + 512, 0), errno.EINVAL, errno.EOVERFLOW)
    assert handle.pread(4096, 11 * MI) == data[:4096], "the connection is still in step"
    handle.shutdown()


def test_a_write_of_more_than_64_MiB_ends_only_its_own_connection(shared_pair):
    bad, good = shared_pair.a.connect("image"), shared_pair.a.connect("image")
    bad.set_strict_mode(0)
    with pytest.raises(nbd.Error):
        bad.pwrite(bytes(64 * MI), 0)
        bad.pwrite(bytes(64 * MI), 0)
    good.pwrite(b"good", 0)
    assert good.pread(4, 0) == b"good"
    good.shutdown()


def test_unknown_commands_and_flags_are_refused(handle):
    refused(lambda: handle.cache(4096, 0), errno.EINVAL, errno.ENOTSUP)
    refused(lambda: handle.pread(4096, 0, 1 << 9), errno.EINVAL)
    assert len(handle.pread(4096, 0)) == 4096


def test_hundreds_of_requests_in_flight_with_answers_in_any_order(handle):
    count, size = 512, 16 * KI
    blocks = [pattern(size, 100 + n) for n in range(count)]
    answered = []

    def done(number):
        def callback(error):
            assert error.value == 0, error.value
            answered.append(number)
            return 1
        return callback

    order = list(range(count))
    random.Random(9).shuffle(order)
    for number in order:
        handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(blocks[number])), number * size, completion=done(number))
    for _ in range(20000):
        if len(answered) == count:
            break
        handle.poll(100)
    assert sorted(answered) == list(range(count))
    buffers = {}
    for number in range(count):
        buffers[number] = nbd.Buffer(size)
        handle.aio_pread(buffers[number], number * size, completion=done(number + count))
    for _ in range(20000):
        if len(answered) == 2 * count:
            break
        handle.poll(100)
    assert len(answered) == 2 * count
    for number in range(count):
        assert buffers[number].to_bytearray() == blocks[number], number


def test_overlapping_writes_in_flight_end_as_one_of_them(handle):
    """Each of 64 writes to one place is whole; the last in the volume is one of those that were sent."""
    for offset, size in ((6 * MI, 4096), (6 * MI + 300, 20000)):
        for fill in range(1, 65):
            handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([fill]) * size), offset,
                              completion=lambda error: 1)
        while handle.aio_in_flight():
            handle.poll(100)
        data = handle.pread(size, offset)
        for start in range(0, size, 4096):  # NBD promises no more than whole pages here
            end = min(start + 4096 - (offset + start) % 4096, size)
            assert len(set(data[start:end])) == 1


def test_what_one_connection_wrote_another_reads(shared_pair):
    """CAN_MULTI_CONN: a write that was answered is seen through every connection; a flush on one is for all."""
    handles = [shared_pair.a.connect("alpha") for _ in range(6)]
    handles.append(nbd.NBD())
    handles[-1].connect_uri(shared_pair.a.unix_uri("alpha"))
    assert all(h.can_multi_conn() for h in handles)
    generator = random.Random(10)
    for turn in range(200):
        writer, reader, flusher = generator.sample(handles, 3)
        data = generator.randbytes(1000)
        offset = 7 * MI + turn * 1000
        writer.pwrite(data, offset)
        flusher.flush()
        assert reader.pread(1000, offset) == data
    for handle in handles:
        handle.shutdown()


# ---- the controller that does not own the volume ----

def test_the_other_controller_serves_the_volume_too(shared_pair):
    for controller, volume in ((shared_pair.b, "alpha"), (shared_pair.a, "beta")):
        owner = shared_pair.other(controller).connect(volume)
        other = controller.connect(volume, contexts=[nbd.CONTEXT_BASE_ALLOCATION])
        before = volume_status(controller.status(), volume)["shipped"]
        data = pattern(700 * KI, 11)  # more than one step, and not whole blocks
        other.pwrite(data, 4096 * 5 + 77)
        assert owner.pread(len(data), 4096 * 5 + 77) == data
        owner.pwrite(data[:5000], 4096 * 6 + 1)
        assert other.pread(5000, 4096 * 6 + 1) == data[:5000]
        other.zero(8192, 4096 * 7 + 3)
        assert owner.pread(8192, 4096 * 7 + 3) == bytes(8192)
        other.trim(8192, 4096 * 20)
        other.pwrite(data[:512], 0, nbd.CMD_FLAG_FUA)
        other.flush()
        # What this controller cannot know is called data.
        seen = []
        other.block_status(MI, 0, lambda name, offset, entries, error: seen.extend(entries) or 0)
        assert seen == [MI, 0]
        assert volume_status(controller.status(), volume)["shipped"] >= before + 8
        assert volume_status(controller.status(), volume)["refused"] == 0
        for handle in (owner, other):
            handle.shutdown()


def test_nbdcopy_through_the_other_controller(shared_pair, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(bytes(os.urandom(MI)) + bytes(MI) + bytes(os.urandom(14 * MI)))
    run("nbdcopy", source, shared_pair.b.uri("alpha"))
    run("nbdcopy", shared_pair.a.uri("alpha"), back)
    assert back.read_bytes() == source.read_bytes()
    back.unlink()
    run("nbdcopy", shared_pair.b.uri("alpha"), back)
    assert back.read_bytes() == source.read_bytes()
