"""A WebSocket server and client (websockets). `server PORT`, or `client HOST:PORT` (a sidecar's outbound address)."""

import asyncio
import sys

import websockets


async def serve(port):
    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async with websockets.serve(echo, "127.0.0.1", port, max_size=None):
        await asyncio.Future()


async def call(address):
    host, port = address.rsplit(":", 1)
    host = host.strip("[]")
    # The socket is given: the URI names the service, the bytes go to the sidecar.
    import socket

    connection = socket.create_connection((host, int(port)))
    async with websockets.connect("ws://server:8080/socket", sock=connection, max_size=None, proxy=None) as ws:
        for n in range(200):
            await ws.send(f"message {n}")
            assert await ws.recv() == f"message {n}"
        large = bytes(1 << 20)
        await ws.send(large)
        assert await ws.recv() == large
        await (await ws.ping())
    print("all messages came back")


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[2])) if sys.argv[1] == "server" else call(sys.argv[2]))
