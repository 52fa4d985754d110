"""A gRPC server and client (grpcio, no generated code): all four kinds of call, deadlines, binary metadata, large
messages, status and trailers. `server PORT`, or `client HOST:PORT` (a sidecar's outbound address), or `hold HOST:PORT
COUNT [AUTHORITY]`: keeps so many streams talking, and makes calls beside them, until its standard input ends.
`health HOST:PORT`: the health protocol, and another call."""

import concurrent.futures
import sys
import threading
import time

import grpc

AUTHORITY = sys.argv[4] if len(sys.argv) > 4 else "server:8080"
LARGE = b"x" * (3 << 20)


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(lambda *_: b"\x08\x01"),
            "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/test.Echo/ServerStream": grpc.unary_stream_rpc_method_handler(self.server_stream),
            "/test.Echo/ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),
            "/test.Echo/Both": grpc.stream_stream_rpc_method_handler(self.both),
            "/test.Echo/Slow": grpc.unary_unary_rpc_method_handler(self.slow),
            "/test.Echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }.get(details.method)

    def unary(self, request, context):
        received = dict(context.invocation_metadata())
        context.send_initial_metadata((("initial", "1"),))
        context.set_trailing_metadata((("echo-bin", received.get("token-bin", b"")), ("trailing", "2")))
        return request

    def server_stream(self, request, context):
        for n in range(100):
            yield request + str(n).encode()

    def client_stream(self, requests, context):
        return b"".join(requests)

    def both(self, requests, context):
        for request in requests:
            yield request

    def slow(self, request, context):
        left = context.time_remaining()
        time.sleep(min(5, left + 0.2))
        return b"late"

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no, thank you: ü")


def serve(port):
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=options)
    server.add_generic_rpc_handlers((Echo(),))
    assert server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def call(address):
    options = [
        ("grpc.default_authority", AUTHORITY),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_http_proxy", 0),
    ]
    with grpc.insecure_channel(address, options=options) as channel:
        unary = channel.unary_unary("/test.Echo/Unary")
        binary = bytes(range(256))
        reply, done = unary.with_call(b"hello", metadata=(("token-bin", binary),), timeout=10)
        trailing = dict(done.trailing_metadata())
        assert reply == b"hello", reply
        assert dict(done.initial_metadata())["initial"] == "1"
        assert trailing["echo-bin"] == binary and trailing["trailing"] == "2", trailing
        assert unary(LARGE, timeout=30) == LARGE

        streamed = list(channel.unary_stream("/test.Echo/ServerStream")(b"n", timeout=10))
        assert streamed == [b"n" + str(n).encode() for n in range(100)]

        joined = channel.stream_unary("/test.Echo/ClientStream")((b"ab" for _ in range(1000)), timeout=10)
        assert joined == b"ab" * 1000

        # Both ways, each answer awaited before the next question: nothing is held back on the way.
        answers = []

        def questions():
            for n in range(50):
                while len(answers) < n:
                    time.sleep(0.001)
                yield str(n).encode()

        for answer in channel.stream_stream("/test.Echo/Both")(questions(), timeout=20):
            answers.append(answer)
        assert answers == [str(n).encode() for n in range(50)]

        begun = time.monotonic()
        try:
            channel.unary_unary("/test.Echo/Slow")(b"", timeout=0.3)
            raise AssertionError("a deadline that did not hold")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        assert time.monotonic() - begun < 2

        try:
            channel.unary_unary("/test.Echo/Fail")(b"", timeout=5)
            raise AssertionError("a failure that was lost")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
            assert error.details() == "no, thank you: ü", error.details()
    print("all calls passed")


def hold(address, count):
    over, failures, talked, calls = threading.Event(), [], [0] * count, [0]

    def guarded(work, *arguments):
        try:
            work(*arguments)
        except Exception as error:  # all of them are failures of the mesh
            failures.append(f"{work.__name__}{arguments[1:]}: {error}")

    def stream(channel, n):
        heard = threading.Semaphore(1)

        def questions():
            number = 0
            while not over.is_set():
                heard.acquire()
                yield f"{n} {number}".encode()
                number += 1
                time.sleep(0.1)

        for number, answer in enumerate(channel.stream_stream("/test.Echo/Both")(questions())):
            assert answer == f"{n} {number}".encode(), (n, number, answer)
            talked[n] = number + 1
            heard.release()

    def unary(channel):
        call = channel.unary_unary("/test.Echo/Unary")
        while not over.is_set():
            assert call(b"hello", timeout=20) == b"hello"
            calls[0] += 1
            time.sleep(0.02)

    options = [("grpc.default_authority", AUTHORITY), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        work = [threading.Thread(target=guarded, args=(stream, channel, n)) for n in range(count)]
        work.append(threading.Thread(target=guarded, args=(unary, channel)))
        for thread in work:
            thread.start()
        while not failures and not all(talked):
            time.sleep(0.01)
        print("all streams talk", flush=True)
        sys.stdin.read()
        before = list(talked)
        time.sleep(1)
        silent = [n for n in range(count) if talked[n] == before[n]]
        over.set()
        for thread in work:
            thread.join(30)
    assert not failures, failures
    assert not silent, f"streams that say nothing any more: {silent}"
    print(f"all streams lived: {sum(talked)} messages, {calls[0]} calls")


def health(target):
    """As a kubelet asks it; and what it does not ask."""
    with grpc.insecure_channel(target) as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
        try:
            channel.unary_unary("/test.Echo/Unary")(b"x", timeout=20)
            other = "OK"
        except grpc.RpcError as error:
            other = error.code().name
    serving = "serving" if answer == b"\x08\x01" else answer
    print(f"{serving}; Unary: {other}")


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(int(sys.argv[2]))
    elif sys.argv[1] == "hold":
        hold(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "health":
        health(sys.argv[2])
    else:
        call(sys.argv[2])
