"""Asks for names with the bytes of a question, and says the bytes of the answer.

`ask RESOLVER udp|tcp NAME TYPE [ROOM]`: TYPE is a number; with ROOM, the question says that so many bytes fit (EDNS).
Says the answer in hexadecimal digits.
`code RESOLVER NAME`: asks for an IPv4 address as a resolver with patience for 5 s; says the code of the answer, and after
how many milliseconds it came.
`flood RESOLVER N NAME`: asks N questions at once, again those that are not answered within a second, as resolvers do (the
kernel's queues are short), and says how many were answered within 15 s."""

import socket
import struct
import sys
import time


def question(name, kind, room=None, ident=4660):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    text = struct.pack(">6H", ident, 0x0100, 1, 0, 0, 1 if room else 0) + labels + struct.pack(">2H", kind, 1)
    return text + (b"\0" + struct.pack(">2HLH", 41, room, 0, 0) if room else b"")


def exactly(stream, count):
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError(f"ended after {len(data)} of {count} bytes")
        data += more
    return data


def ask(resolver, over, text, port=0):
    family = socket.AF_INET6 if ":" in resolver else socket.AF_INET
    if over == "udp":
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(10)
            datagrams.bind(("", port))
            datagrams.connect((resolver, 53))
            datagrams.send(text)
            return datagrams.recv(65535)
    with socket.create_connection((resolver, 53), timeout=10, source_address=("", port)) as stream:
        stream.sendall(struct.pack(">H", len(text)) + text)
        return exactly(stream, struct.unpack(">H", exactly(stream, 2))[0])


match sys.argv[1:]:
    case ["ask", port, resolver, over, name, kind, *room]:
        print(ask(resolver, over, question(name, int(kind), *map(int, room)), int(port)).hex())
    case ["code", resolver, name]:
        began = time.monotonic()
        answer = ask(resolver, "udp", question(name, 1))
        print(answer[3] & 15, round((time.monotonic() - began) * 1000))
    case ["flood", resolver, count, name]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect((resolver, 53))
            datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            left, end = set(range(int(count))), time.monotonic() + 15
            while left and time.monotonic() < end:
                for n in left:
                    datagrams.send(question(name, 1, ident=n))
                datagrams.settimeout(1)
                try:
                    while left:
                        left.discard(struct.unpack(">H", datagrams.recv(65535)[:2])[0])
                except TimeoutError:
                    pass
            print(int(count) - len(left))
    case _:
        sys.exit(__doc__)
