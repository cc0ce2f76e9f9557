#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""Writes the seed corpora of iscsi_fuzz.c, iscsi_ship_fuzz.c and iscsi_target_fuzz.c: one honest stream for each state that is worth
starting from.
With --check it only compares what it would write with what is there."""

import pathlib
import struct
import sys

NONE = 0xFFFFFFFF


def pdu(opcode, flags=0x80, itt=1, word20=0, words=(), data=b"", lun=b"\0" * 8, byte23=b"\0\0"):
    head = struct.pack(">BB2sI", opcode, flags, byte23, len(data)) + lun
    head += struct.pack(">II", itt, word20)
    head += b"".join(struct.pack(">I", w) if isinstance(w, int) else w for w in words)
    return head.ljust(48, b"\0") + data + b"\0" * (-len(data) % 4)


def text(*pairs):
    return b"".join(p.encode() + b"\0" for p in pairs)


NAMES = ("InitiatorName=iqn.a", "TargetName=iqn.t", "SessionType=Normal")
ISID = b"\x80" + b"\0" * 7


def login(flags, *pairs):
    return pdu(0x43, flags, 0, 0, (1, 0), text(*pairs), ISID)


def answer(flags, stat_sn, *pairs, tsih=0, status=0):
    isid = b"\x80" + b"\0" * 5 + struct.pack(">H", tsih)
    return pdu(0x23, flags, 0, 0, (stat_sn, 1, 1, status << 16), text(*pairs), isid)


def write_buffer(length, immediate, cmd_sn=1, final=True):
    cdb = bytes([0x3B, 2, 0, 0, 0, 0]) + length.to_bytes(3, "big") + b"\0" * 7
    return pdu(0x01, (0x80 if final else 0) | 0x21, 5, length, (cmd_sn, 4, cdb), b"d" * immediate)


def data_out(ttt, sn, offset, size, final):
    return pdu(0x05, 0x80 if final else 0, 5, ttt, (0, 4, 0, sn, offset), b"d" * size)


OPERATIONAL = ("HeaderDigest=None", "DataDigest=CRC32C,None", "InitialR2T=No", "ImmediateData=Yes",
               "MaxBurstLength=16777215", "FirstBurstLength=65536", "MaxConnections=1",
               "DefaultTime2Wait=2", "MaxRecvDataSegmentLength=8192", "X-odd=1")
LOGIN = login(0x81, *NAMES, "AuthMethod=None") + login(0x87, *OPERATIONAL)
CHAP = (login(0x00, *NAMES, "AuthMethod=CHAP") + login(0x00, "CHAP_A=7,5") +
        login(0x81, "CHAP_N=x", "CHAP_R=0x" + "ab" * 32, "CHAP_I=9", "CHAP_C=0x" + "cd" * 16))
CDB_INQUIRY = bytes([0x12, 0, 0, 0, 96]) + b"\0" * 11
ANSWERS = ("HeaderDigest=None", "DataDigest=None", "MaxConnections=1", "InitialR2T=No",
           "ImmediateData=Yes", "MaxBurstLength=16777215", "FirstBurstLength=16777215",
           "DefaultTime2Wait=2", "DefaultTime2Retain=0", "MaxOutstandingR2T=1",
           "DataPDUInOrder=Yes", "DataSequenceInOrder=Yes", "ErrorRecoveryLevel=0",
           "MaxRecvDataSegmentLength=8192")

SEEDS = {
    "target-login": bytes([0, 0]) + LOGIN + write_buffer(100, 100),
    "target-login-pieces": bytes([0, 7]) + LOGIN + write_buffer(100, 100),
    "target-chap": bytes([2, 0]) + CHAP,
    "target-skip": bytes([2, 0]) + login(0x87, *NAMES, *OPERATIONAL),
    "target-small": bytes([16, 0]) + write_buffer(301, 301) + write_buffer(5, 5, 2),
    "target-unsolicited": bytes([16 + 32, 50]) + write_buffer(1000, 300, 1, False) +
    data_out(NONE, 0, 300, 300, False) + data_out(NONE, 1, 600, 400, True),
    "target-r2t": bytes([16 + 8, 0]) + write_buffer(1536, 512) + data_out(1, 0, 512, 600, False) +
    data_out(1, 1, 1112, 424, True),
    "target-too-large": bytes([16, 9]) + write_buffer(5000, 100),
    "target-others": bytes([16, 0]) + pdu(0x40, 0x80, 9, NONE, (1, 4), b"ping") +
    pdu(0x01, 0xC1, 6, 96, (1, 4, CDB_INQUIRY)) + pdu(0x01, 0x81, 7, 0, (2, 4)) +
    pdu(0x44, 0x80, 8, NONE, (3, 4), text("SendTargets=All", "MaxRecvDataSegmentLength=600")) +
    pdu(0x42, 0x81, 9, 5, (3, 4)) + pdu(0x10, 0x80, 9) + pdu(0x46, 0x80, 9, 0, (3, 4)),
    "initiator-login": bytes([1, 0]) + answer(0x81, 1, "AuthMethod=None", "TargetPortalGroupTag=1")
    + answer(0x87, 2, *ANSWERS, tsih=1) + pdu(0x21, 0x80, 1, 0, (3, 2, 2)),
    "initiator-chap": bytes([3, 0]) + answer(0, 1, "AuthMethod=CHAP") +
    answer(0, 2, "CHAP_A=5", "CHAP_I=1", "CHAP_C=0b" + "QUJD" * 8) +
    answer(0x81, 3, "CHAP_N=x", "CHAP_R=0x" + "11" * 16),
    "initiator-refused": bytes([1, 5]) + answer(0, 1, status=0x0201),
    "initiator-status": bytes([17, 0]) + pdu(0x21, 0x80, 1, 0, (3, 2, 2)) +
    pdu(0x21, 0x80, 2, 0, (4, 3, 3), b"\0\x12\x70\0\x0b" + b"\0" * 15, byte23=b"\0\2"),
    "initiator-r2t": bytes([17 + 8, 0]) + pdu(0x31, 0x80, 1, 7, (3, 2, 1, 0, 512, 1024)) +
    pdu(0x31, 0x80, 1, 8, (3, 2, 1, 1, 1536, 1000)),
    "initiator-others": bytes([17, 0]) + pdu(0x20, 0x80, NONE, 3, (3, 2, 2)) +
    pdu(0x3F, 0x80, NONE, 0, (3, 2, 2), b"\0" * 48, byte23=b"\4\0"),
}




# ---- the target for hosts; its third byte seeds the dice of the caller ----

def command(itt, cmd_sn, expected=0, flags=0x80, data=b"", opcode=0x28, immediate=False):
    return pdu(0x41 if immediate else 0x01, flags, itt, expected, (cmd_sn, 0, bytes([opcode]) + b"\0" * 15), data)


def read(itt, cmd_sn, expected):
    return command(itt, cmd_sn, expected, 0xC1)


def write(itt, cmd_sn, expected, immediate, final=True):
    return command(itt, cmd_sn, expected, 0xA1 if final else 0x21, b"w" * immediate, 0x2A)


def host_data(itt, ttt, sn, offset, size, final):
    return pdu(0x05, 0x80 if final else 0, itt, ttt, (0, 0, 0, sn, offset), b"d" * size)


def manage(function, itt, referenced, cmd_sn, referenced_sn):
    return pdu(0x42, 0x80 | function, itt, referenced, (cmd_sn, 0, referenced_sn))


def request(opcode, itt, ttt, cmd_sn, data=b"", flags=0x80):
    return pdu(opcode, flags, itt, ttt, (cmd_sn, 0), data)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def digested(one):
    return one[:48] + crc32c(one[:48]) + (one[48:] + crc32c(one[48:]) if len(one) > 48 else b"")


READS = read(1, 1, 4096) + read(2, 2, 100) + read(3, 3, 0)
UNASKED = write(1, 1, 2000, 300, False) + host_data(1, NONE, 0, 300, 400, False) + host_data(1, NONE, 1, 700, 300, True)
HOST_KEYS = ("HeaderDigest=CRC32C,None", "DataDigest=CRC32C", "InitialR2T=Yes", "ImmediateData=No",
             "MaxRecvDataSegmentLength=512", "MaxOutstandingR2T=8", "ErrorRecoveryLevel=2", "DataPDUInOrder=No")
DISCOVERY = ("InitiatorName=iqn.a", "SessionType=Discovery")

TARGET_SEEDS = {
    "login": bytes([0, 0, 1]) + LOGIN + READS,
    "login-keys": bytes([4, 11, 1]) + login(0x81, *NAMES, "AuthMethod=None") + login(0x87, *HOST_KEYS),
    "login-chap": bytes([2, 0, 1]) + CHAP,
    "login-pieces": bytes([0, 3, 1]) + login(0x40, *NAMES) + login(0x81, "AuthMethod=None") + login(0x87),
    "discovery": bytes([0, 0, 1]) + login(0x87, *DISCOVERY) + request(0x44, 5, NONE, 1, text("SendTargets=All")),
    "discovery-more": bytes([33, 0, 1]) + request(0x44, 5, NONE, 1, text("MaxRecvDataSegmentLength=512")) +
    request(0x44, 5, NONE, 1, text("SendTargets=iqn.u")) + request(0x46, 6, 0, 1),
    "reads": bytes([1, 0, 1]) + READS,
    "reads-digests": bytes([5, 7, 1]) + digested(read(1, 1, 4096)) + digested(write(2, 2, 100, 99)),
    "writes": bytes([1, 0, 2]) + write(1, 1, 500, 500) + write(2, 2, 1, 1),
    "writes-unasked": bytes([1 + 16, 50, 3]) + UNASKED,
    "writes-r2t": bytes([1 + 8, 0, 4]) + write(1, 1, 3000, 512) + host_data(1, 1, 0, 512, 600, False) +
    host_data(1, 1, 1, 1112, 600, False) + host_data(1, 1, 2, 1712, 848, True),
    "ahead": bytes([1, 0, 5]) + read(2, 2, 512) + write(3, 3, 600, 500) + read(1, 1, 0),
    "immediate": bytes([1, 0, 6]) + b"".join(command(i, 1, immediate=True) for i in range(1, 7)),
    "manage": bytes([1, 0, 7]) + UNASKED + manage(1, 9, 1, 2, 1) + manage(5, 10, NONE, 2, 0) + manage(8, 11, 1, 2, 0),
    "others": bytes([1, 0, 8]) + request(0x40, 7, NONE, 1, b"ping") + request(0x10, 7, 0, 1) + request(0x1C, 7, 0, 1) +
    request(0x44, 8, NONE, 1, text("SendTargets="), 0) + request(0x44, 8, 1, 1, b"", 0x80) + request(0x46, 9, 0, 1),
    "text-parts": bytes([1, 9, 8]) + request(0x44, 8, NONE, 1, b"SendTar", 0x40) + request(0x44, 8, 1, 1, b"gets=\0"),
}


# ---- the initiator with many commands: tags 0 and 3 write, 1 and 4 read, 2 and 5 carry no data ----

def status(itt, stat_sn, code=0, data=b"", flags=0x80, residual=0):
    return pdu(0x21, flags, itt, 0, (stat_sn, 4, 12, 0, 0, residual), data, byte23=bytes([0, code]))


def data_in(itt, sn, offset, size, last, stat_sn=0):
    return pdu(0x25, 0x81 if last else 0, itt, NONE, (stat_sn, 4, 12, sn, offset), b"r" * size)


def r2t(itt, ttt, sn, offset, size):
    return pdu(0x31, 0x80, itt, ttt, (3, 4, 12, sn, offset, size))


SHIP_SEEDS = {
    "login": bytes([0, 0]) + answer(0x81, 1, "AuthMethod=None") + answer(0x87, 2, *ANSWERS, tsih=1),
    "statuses": bytes([1, 0]) + status(2, 3) + status(0, 4) + status(2, 5, 2, b"\0\x12\x70\0\x05" + b"\0" * 15),
    "reads": bytes([1, 9]) + data_in(1, 0, 0, 1000, False) + data_in(1, 1, 1000, 1999, True, 3) +
    data_in(4, 0, 0, 2996, True, 4),
    "reads-direct": bytes([5, 100]) + data_in(1, 0, 0, 2999, True, 3),
    "read-short": bytes([1, 0]) + data_in(1, 0, 0, 99, False) + status(1, 3, 0, b"", 0x82, 2900),
    "r2t": bytes([3, 0]) + r2t(0, 7, 0, 0, 1024) + r2t(0, 8, 1, 1024, 1024) + r2t(0, 9, 2, 2048, 952) + status(0, 3),
    "halves": bytes([9, 0]) + status(0, 3) + status(2, 4),
    "others": bytes([1, 0]) + pdu(0x20, 0x80, NONE, 3, (3, 4, 12)) + pdu(0x3F, 0x80, NONE, 0, (3, 4, 12), b"\0" * 48),
    "async": bytes([1, 0]) + pdu(0x32, 0x80, NONE, 0, (3, 4, 12, 1 << 24)),
}


def main():
    wrong = 0
    for folder_name, seeds in (("iscsi", SEEDS), ("iscsi_ship", SHIP_SEEDS), ("iscsi_target", TARGET_SEEDS)):
        folder = pathlib.Path(__file__).parent / "corpus" / folder_name
        for name, content in seeds.items():
            path = folder / name
            if "--check" in sys.argv:
                if not path.exists() or path.read_bytes() != content:
                    print(f"{path}: differs")
                    wrong = 1
            else:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
