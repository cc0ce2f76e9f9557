# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""An iSCSI initiator of a socket and struct.pack, for what a proper one never does: wrong digests, keys, sequence numbers
and proofs, data that never come, answers that are never read (RFC 7143). One connection, no error recovery."""

import hashlib
import os
import socket
import struct

import holdfast

NOP_OUT, COMMAND, MANAGE, LOGIN, TEXT, DATA_OUT, LOGOUT = 0, 1, 2, 3, 4, 5, 6
NOP_IN, RESPONSE, MANAGED, LOGIN_ANSWER, TEXT_ANSWER, DATA_IN, LOGGED_OUT, R2T, ASYNC, REJECT = \
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3F
IMMEDIATE, FINAL, READ, WRITE = 0x40, 0x80, 0x40, 0x20
NO_TAG = 0xFFFFFFFF


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _table()


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 255] ^ value >> 8
    return struct.pack("<I", value ^ 0xFFFFFFFF)


assert crc32c(b"123456789") == struct.pack("<I", 0xE3069283)


class Pdu:
    def __init__(self, header, data):
        self.header, self.data = header, data
        self.opcode, self.flags = header[0] & 63, header[1]
        self.tag = struct.unpack_from(">I", header, 16)[0]

    def word(self, at):
        return struct.unpack_from(">I", self.header, at)[0]

    @property
    def keys(self):
        return dict(part.split("=", 1) for part in self.data.decode(errors="replace").split("\0") if "=" in part)

    def __repr__(self):
        return f"<pdu {self.opcode:#x} flags {self.flags:#x} tag {self.tag:#x} {len(self.data)} bytes>"


class Ended(Exception):
    """The target closed the connection."""


class Raw:
    def __init__(self, port, seconds=10.0, address="127.0.0.1", receive_buffer=None):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(seconds)
        self.socket.connect((address, port))
        self.cmd_sn, self.exp_stat_sn, self.tag = 1, 0, 0
        self.digests = [False, False]  # of headers, of data
        self.spoil = None  # "header" or "data": the next PDU goes out with that digest wrong

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- PDUs ----

    def send(self, header, data=b""):
        """Sends a 48-byte header, whose data length is filled in, with data, padding and digests."""
        header = header[:4] + struct.pack(">I", header[4] << 24 | len(data)) + header[8:]
        out = header
        if self.digests[0]:
            out += crc32c(header) if self.spoil != "header" else b"\0bad"
        padded = data + bytes(-len(data) % 4)
        out += padded
        if data and self.digests[1]:
            out += crc32c(padded) if self.spoil != "data" else b"\0bad"
        self.spoil = None
        self.socket.sendall(out)

    def _take(self, count):
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionError as error:
                raise Ended(str(error)) from error
            except socket.timeout:
                raise holdfast.Timeout(f"no answer; {len(data)} of {count} bytes came") from None
            if not more:
                raise Ended("closed")
            data += more
        return data

    def receive(self):
        header = self._take(48)
        if self.digests[0]:
            assert self._take(4) == crc32c(header), "the target's header digest is wrong"
        length = int.from_bytes(header[5:8], "big")
        assert header[4] == 0, "no AHS is to come from a target"
        data = self._take(length + -length % 4)
        if length and self.digests[1]:
            assert self._take(4) == crc32c(data), "the target's data digest is wrong"
        pdu = Pdu(header, data[:length])
        if pdu.opcode not in (R2T,) and not (pdu.opcode == DATA_IN and not pdu.flags & 1):
            if not (pdu.opcode == NOP_IN and pdu.tag == NO_TAG):
                self.exp_stat_sn = pdu.word(24) + 1 & 0xFFFFFFFF
        return pdu

    def answer_ping(self, pdu):
        """Answers it if it is the target's ping (RFC 7143 section 11.19): a host that does not is dropped."""
        if pdu.opcode == NOP_IN and pdu.tag == NO_TAG and pdu.word(20) != NO_TAG:
            self.nop(NO_TAG, pdu.word(20))

    def until(self, opcode, tag=None):
        """The next PDU of that kind; pings are answered, R2T and data in between are left out."""
        for _ in range(10000):
            pdu = self.receive()
            if pdu.opcode == opcode and tag in (None, pdu.tag):
                return pdu
            self.answer_ping(pdu)
        raise AssertionError(f"no PDU {opcode:#x} among 10,000")

    def ended(self):
        """The target must close the connection; what it still says is returned."""
        said = []
        try:
            while True:
                said.append(self.receive())
        except Ended:
            return said

    def next_tag(self):
        self.tag += 1
        return self.tag

    # ---- login ----

    def login_pdu(self, stage, following, keys, transit=True, tsih=0, isid=b"\x80\0\0\0\0\x01"):
        text = b"".join(f"{key}={value}\0".encode() for key, value in keys)
        flags = (0x80 if transit else 0) | stage << 2 | (following if transit else 0)
        self.send(struct.pack(">BBBB4x6sHIH2xII16x", LOGIN | IMMEDIATE, flags, 0, 0, isid, tsih, 0, 0, self.cmd_sn,
                              self.exp_stat_sn), text)

    def login(self, initiator, target, keys=(), chap=None, digests="None", session="Normal", isid=b"\x80\0\0\0\0\x01"):
        """Logs in, with CHAP if chap = (algorithm, user, secret[, (user, secret) of the target]). Returns the keys that
        the target gave for the operational stage; Refused when it says no."""
        first = [("InitiatorName", initiator), ("SessionType", session)]
        if target:
            first.append(("TargetName", target))
        first.append(("AuthMethod", "CHAP,None" if chap else "None"))
        self.login_pdu(0, 1, first, transit=not chap, isid=isid)
        answer = self._login_answer()
        if chap:
            answer = self._prove(answer, chap, isid)
        given = dict(answer.keys)
        operational = [("HeaderDigest", digests), ("DataDigest", digests), *keys]
        self.login_pdu(1, 3, operational, isid=isid)
        for _ in range(5):
            answer = self._login_answer()
            given.update(answer.keys)
            if answer.flags & 0x83 == 0x83:
                break
            self.login_pdu(1, 3, [], isid=isid)
        assert answer.flags & 0x83 == 0x83, "the target did not go on to the full-feature phase"
        self.digests = [given.get("HeaderDigest") == "CRC32C", given.get("DataDigest") == "CRC32C"]
        self.given, self.tsih = given, struct.unpack_from(">H", answer.header, 14)[0]
        self.cmd_sn = answer.word(28)
        return given

    def _login_answer(self):
        answer = self.receive()
        assert answer.opcode == LOGIN_ANSWER, answer
        status = struct.unpack_from(">H", answer.header, 36)[0]
        if status:
            raise Refused(status)
        return answer

    def _prove(self, answer, chap, isid):
        algorithm, user, secret, *mutual = chap
        assert answer.keys.get("AuthMethod") == "CHAP", answer.keys
        self.login_pdu(0, 1, [("CHAP_A", algorithm)], transit=False, isid=isid)
        challenge = self._login_answer().keys
        assert challenge["CHAP_A"] == str(algorithm), challenge
        response = chap_response(algorithm, int(challenge["CHAP_I"]), secret, unhex(challenge["CHAP_C"]))
        keys = [("CHAP_N", user), ("CHAP_R", "0x" + response.hex())]
        own = os.urandom(16)
        if mutual:
            keys += [("CHAP_I", "77"), ("CHAP_C", "0x" + own.hex())]
        self.login_pdu(0, 1, keys, isid=isid)
        answer = self._login_answer()
        if mutual:
            name, proof = mutual[0]
            assert answer.keys["CHAP_N"] == name
            assert unhex(answer.keys["CHAP_R"]) == chap_response(algorithm, 77, proof, own), "the target's own proof"
        return answer

    # ---- requests ----

    def command(self, lun, cdb, flags=FINAL, expected=0, data=b"", tag=None, cmd_sn=None, attribute=1):
        tag = self.next_tag() if tag is None else tag
        number = self.cmd_sn if cmd_sn is None else cmd_sn
        if cmd_sn is None:
            self.cmd_sn = self.cmd_sn + 1 & 0xFFFFFFFF
        self.send(struct.pack(">BBxx4xBB6xIIII16s", COMMAND, flags | attribute, 0, lun, tag, expected, number,
                              self.exp_stat_sn, cdb.ljust(16, b"\0")), data)
        return tag

    def data_out(self, tag, transfer, number, offset, data, final=True):
        self.send(struct.pack(">BBxx4x8xII4xI4xII4x", DATA_OUT, FINAL if final else 0, tag, transfer, self.exp_stat_sn,
                              number, offset), data)

    def manage(self, function, lun=0, of=NO_TAG, of_number=0):
        tag = self.next_tag()
        self.send(struct.pack(">BBxx4xBB6xIIIII12x", MANAGE | IMMEDIATE, FINAL | function, 0, lun, tag, of, self.cmd_sn,
                              self.exp_stat_sn, of_number))
        return tag

    def nop(self, tag, transfer=NO_TAG, data=b""):
        self.send(struct.pack(">BBxx4x8xIIII16x", NOP_OUT | IMMEDIATE, FINAL, tag, transfer, self.cmd_sn,
                              self.exp_stat_sn), data)

    def text(self, keys):
        tag = self.next_tag()
        self.send(struct.pack(">BBxx4x8xIIII16x", TEXT | IMMEDIATE, FINAL, tag, NO_TAG, self.cmd_sn, self.exp_stat_sn),
                  b"".join(f"{key}={value}\0".encode() for key, value in keys))
        return self.until(TEXT_ANSWER, tag)

    def logout(self):
        tag = self.next_tag()
        self.send(struct.pack(">BBxx4x8xIHxxII16x", LOGOUT | IMMEDIATE, FINAL, tag, 0, self.cmd_sn, self.exp_stat_sn))
        return self.until(LOGGED_OUT, tag)

    # ---- the plain way ----

    def read(self, lun, lba, blocks, block=512):
        tag = self.command(lun, struct.pack(">BBQIBB", 0x88, 0, lba, blocks, 0, 0), FINAL | READ, blocks * block)
        data = bytearray(blocks * block)
        while True:
            pdu = self.receive()
            if pdu.opcode == DATA_IN:
                at = pdu.word(40)
                data[at:at + len(pdu.data)] = pdu.data
                if pdu.flags & 1:
                    return pdu.header[3], bytes(data)
            elif pdu.opcode == RESPONSE and pdu.tag == tag:
                return pdu.header[3], bytes(data)
            self.answer_ping(pdu)

    def write(self, lun, lba, data, block=512):
        """All of it as R2Ts ask for it; returns the status."""
        tag = self.command(lun, struct.pack(">BBQIBB", 0x8A, 0, lba, len(data) // block, 0, 0), FINAL | WRITE,
                           len(data))
        while True:
            pdu = self.receive()
            if pdu.opcode == R2T:
                at, length = pdu.word(40), pdu.word(44)
                limit = int(self.given.get("MaxRecvDataSegmentLength", 8192))
                number = 0
                while length:
                    part = min(length, limit)
                    self.data_out(tag, pdu.word(20), number, at, data[at:at + part], final=part == length)
                    at, length, number = at + part, length - part, number + 1
            elif pdu.opcode == RESPONSE and pdu.tag == tag:
                return pdu.header[3]
            self.answer_ping(pdu)


class Refused(Exception):
    """The login was refused; status is class and detail (RFC 7143 section 11.13.5)."""

    def __init__(self, status):
        super().__init__(f"login status {status:#06x}")
        self.status = status


def unhex(text):
    assert text.startswith(("0x", "0X")), text
    digits = text[2:]
    return bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)


def chap_response(algorithm, identifier, secret, challenge):
    """RFC 1994 with MD5 (5), or SHA-256 (7, RFC 7143 section 12.1.3)."""
    digest = {5: hashlib.md5, 7: hashlib.sha256}[algorithm]
    return digest(bytes([identifier]) + secret.encode() + challenge).digest()
