"""Questions about scenes to a running sightd, several on their way at once; and starting one."""
import contextlib
import json
import subprocess
import tempfile
import time

import zmq


def request(paths, is_clip, q, max_tokens=320):
    """The request of a question about the media, the turn before it included."""
    kind = "video" if is_clip else "image"
    media_parts = [{"type": kind, kind: str(path)} for path in paths]
    turns = [*(q.before or ()), q.text]
    messages = [{"role": "assistant" if i % 2 else "user",
                 "content": text if i else [*media_parts, {"type": "text", "text": text}]} for i, text in enumerate(turns)]
    return {"messages": messages, "temperature": 0, "max_tokens": max_tokens, "repetition_guard": False, "confidence": True}


class Sightd:
    """A connection. Not for several threads."""

    def __init__(self, endpoint, at_once=8):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.connect(endpoint)
        self.at_once, self.n = at_once, 0

    def answers(self, asked):
        """asked: pairs of anything and a request, taken as there is room. -> (that, answer, confidence or None), as they come."""
        asked, under_way, more = iter(asked), {}, True
        while more or under_way:
            while more and len(under_way) < self.at_once:
                entry = next(asked, None)
                more = entry is not None
                if more:
                    self.n += 1
                    name = f"e{self.n}".encode()
                    under_way[name] = [entry[0], ""]
                    self.socket.send_multipart([b"SIGHT1", name, b"ask", json.dumps(entry[1]).encode()])
            if not under_way:
                return
            _, name, event, body = self.socket.recv_multipart()
            if name not in under_way:
                continue
            body = json.loads(body)
            if event == b"delta" and body["channel"] == "answer":
                under_way[name][1] += body["text"]
            elif event == b"done":
                what, text = under_way.pop(name)
                yield what, text, body.get("confidence")
            elif event == b"error":
                raise RuntimeError(body["message"])


@contextlib.contextmanager
def started(program, model, arguments=()):
    """A sightd on a socket of its own, stopped at the end: its endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/sightd.sock"
        daemon = subprocess.Popen([program, "--model", model, "--endpoint", endpoint, "--log", "warning", *arguments])
        try:
            probe = zmq.Context.instance().socket(zmq.DEALER)
            probe.connect(endpoint)
            probe.send_multipart([b"SIGHT1", b"p", b"status", b"{}"])
            start = time.time()
            while not probe.poll(200):
                if daemon.poll() is not None or time.time() - start > 300:
                    raise RuntimeError(f"{program} does not serve (exit code {daemon.poll()})")
            probe.close(0)
            yield endpoint
        finally:
            daemon.terminate()
            daemon.wait()
