"""An asyncio server that answers images with arrays from the device. Needs 'torch-np-bridge[demo]'.

python examples/server.py [--device NAME]
"""

import argparse
import asyncio

import numpy as np
import torch
from rich.progress import Progress
from sklearn.datasets import load_digits

import torch_np_bridge as tnb

CLIENTS = 8
IMAGES = 20  # of each request
PIXELS = 64


class Server:
    """Names digits by the nearest of the means of ten kinds of images."""

    def __init__(self, device: torch.device) -> None:
        digits = load_digits()
        images = torch.from_numpy(digits.data).float()
        means = torch.stack([images[digits.target == label].mean(dim=0) for label in range(10)])
        self.weights, self.offsets = (2 * means.T).to(device), means.square().sum(dim=1).to(device)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read images of float32 and answer with ten scores of each, until the client has had enough."""
        while request := await reader.read(4):
            count = int.from_bytes(request + await reader.readexactly(4 - len(request)), "big")
            pixels = np.frombuffer(await reader.readexactly(4 * PIXELS * count), np.float32).reshape(count, PIXELS)
            scores = torch.tensor(pixels).to(self.weights.device) @ self.weights - self.offsets
            # The loop serves the other clients until the copy has ended.
            array = await tnb.to_numpy_async(scores)
            writer.write(array.tobytes())
            await writer.drain()
        writer.close()


async def serve_and_ask(device: torch.device) -> float:
    """Start the server, let several clients ask at once, and return the share of digits that were named right."""
    digits = load_digits()
    requests = np.array_split(np.arange(len(digits.data)), len(digits.data) // IMAGES)
    named = np.full(len(digits.data), -1)
    server = await asyncio.start_server(Server(device).answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()

    with Progress() as progress:
        task = progress.add_task("asking", total=len(requests))

        async def ask(mine: list[np.ndarray]) -> None:
            reader, writer = await asyncio.open_connection(host, port)
            for rows in mine:
                writer.write(len(rows).to_bytes(4, "big") + digits.data[rows].astype(np.float32).tobytes())
                scores = np.frombuffer(await reader.readexactly(4 * 10 * len(rows)), np.float32)
                named[rows] = scores.reshape(-1, 10).argmax(axis=1)
                progress.advance(task)
            writer.close()
            await writer.wait_closed()

        async with server:
            await asyncio.gather(*(ask(requests[client::CLIENTS]) for client in range(CLIENTS)))
    return float((named == digits.target).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A server that answers with arrays.")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    parser.add_argument("--device", default=str(accelerator or "cpu"))
    chosen = torch.device(parser.parse_args().device)
    right = asyncio.run(serve_and_ask(chosen))
    assert right > 0.85
    print(f"{chosen}: {CLIENTS} clients at once, {right:.1%} of the digits named right")
