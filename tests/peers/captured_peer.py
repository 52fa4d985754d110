"""Plain servers and a plain client, which know nothing of a mesh.

`serve HTTP_PORT SMTP_PORT ECHO_PORT`: on loopback, an HTTP server that says who it is and what it was asked, a mail server
that greets first, and one that sends back what it is sent. `serve-on ADDRESS ECHO_PORT`: only the last, on an address.
`greeted ADDRESS PORT N`: connects N times, waits for the greeting, and says how many milliseconds each took.
`first ADDRESS PORT TEXT`: sends a text, and says what comes back until the end of a line.
`silence ADDRESS PORT FILE`: until there is such a file, says one word on one connection, and nothing more.
`silent ADDRESS PORT TEXT`: the same, when nothing has come for half a second before.
`half ADDRESS PORT`: sends, ends its own half, and says what comes back until the end.
`talk ADDRESS PORT FILE`: until there is such a file, talks on one connection, and beside it on a new one each time; says
how often."""

import http.server
import os
import socket
import socketserver
import sys
import threading
import time


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one segment: two wait for each other (Nagle and delayed acknowledgements), 40 ms a request.
    wbufsize = 65536

    def answer(self):
        body = f"{self.command} {self.path} scratchless\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_FETCH = answer

    def log_message(self, *_):
        pass


class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wfile.write(b"220 scratchless ESMTP\r\n")
        for line in self.rfile:
            if line.upper().startswith(b"QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 " + line)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def forever(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve(http_port, smtp_port, echo_port):
    forever(http.server.ThreadingHTTPServer(("127.0.0.1", http_port), Http))
    forever(Server(("127.0.0.1", smtp_port), Mail))
    Server(("127.0.0.1", echo_port), Echo).serve_forever()


def greeted(address, port, times):
    for _ in range(times):
        began = time.perf_counter()
        with socket.create_connection((address, port), timeout=20) as connection:
            said = connection.recv(64)
            took = time.perf_counter() - began
            assert said.startswith(b"220 "), said
        print(f"{took * 1000:.3f}")


def first(address, port, text):
    with socket.create_connection((address, port), timeout=20) as connection:
        connection.sendall(text.encode())
        print(connection.recv(4096).decode(errors="replace"))


def silence(address, port, until):
    with socket.create_connection((address, port), timeout=20) as connection:
        echoed(connection, b"\x01word")
        while not os.path.exists(until):
            time.sleep(0.05)


def silent(address, port, text):
    with socket.create_connection((address, port), timeout=0.5) as connection:
        try:
            raise SystemExit(f"it speaks first: {connection.recv(4096)}")
        except TimeoutError:
            connection.settimeout(20)
        connection.sendall(text.encode())
        print(connection.recv(4096).decode(errors="replace"))


def half(address, port):
    sent = b"scratchless" * 10_000
    with socket.create_connection((address, port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        back = b""
        while more := connection.recv(65536):
            back += more
    assert back == sent, (len(back), len(sent))
    print("all came back")


def echoed(connection, text):
    connection.sendall(text)
    back = b""
    while len(back) < len(text):
        more = connection.recv(4096)
        assert more, "cut"
        back += more
    assert back == text, back


def talk(address, port, until):
    times = 0
    with socket.create_connection((address, port), timeout=20) as connection:
        while not os.path.exists(until):
            echoed(connection, b"\x01old %d\n" % times)
            with socket.create_connection((address, port), timeout=20) as new:
                echoed(new, b"\x01new %d\n" % times)
            times += 1
            time.sleep(0.005)
    print(times)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "serve":
        serve(*map(int, rest))
    elif what == "serve-on":
        family = Server
        family.address_family = socket.AF_INET6 if ":" in rest[0] else socket.AF_INET
        family((rest[0], int(rest[1])), Echo).serve_forever()
    elif what == "greeted":
        greeted(rest[0], int(rest[1]), int(rest[2]))
    elif what == "talk":
        talk(rest[0], int(rest[1]), rest[2])
    elif what == "half":
        half(rest[0], int(rest[1]))
    elif what == "silence":
        silence(rest[0], int(rest[1]), rest[2])
    elif what == "silent":
        silent(rest[0], int(rest[1]), rest[2])
    else:
        first(rest[0], int(rest[1]), rest[2])
