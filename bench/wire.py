"""A client of sightd in Python, for the programs of this folder: docs/PROTOCOL.md over ZeroMQ (pyzmq)."""
import itertools
import json
import os

import zmq


class Refused(Exception):
    """An error event: its code, its sentence, and when to come back."""

    def __init__(self, body):
        super().__init__(f"{body.get('code')}: {body.get('message')}")
        self.code, self.retry_after_s = body.get("code"), body.get("retry_after_s")


class Gone(Exception):
    """The server says nothing any more."""


class Client:
    """One connection, used by one thread."""

    def __init__(self, endpoint, silence_s=30, receive_queue=1000):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvhwm = receive_queue
        self.socket.connect(endpoint)
        self.silence_ms = int(silence_s * 1000)
        self.ids = (f"b{os.getpid()}-{i}" for i in itertools.count())

    def close(self):
        self.socket.close()

    def send(self, verb, body, parts=(), id=None):
        id = id or next(self.ids)
        self.socket.send_multipart([b"SIGHT1", id.encode(), verb.encode(), json.dumps(body).encode(), *parts])
        return id

    def receive(self, timeout_ms=None):
        """(id, kind, body) of the next event."""
        if not self.socket.poll(self.silence_ms if timeout_ms is None else timeout_ms):
            raise Gone(f"nothing from the server for {self.silence_ms / 1000:g} s")
        _, id, kind, body = self.socket.recv_multipart()[:4]
        return id.decode(), kind.decode(), json.loads(body)

    def events(self, verb, body, parts=()):
        """(kind, body) of a request's events until its done; an error is raised."""
        wanted = self.send(verb, body, parts)
        while True:
            id, kind, data = self.receive()
            if id not in (wanted, "-"):
                continue
            if kind == "error":
                raise Refused(data)
            yield kind, data
            if kind == "done":
                return

    def call(self, verb, body=None):
        return [data for _, data in self.events(verb, body or {})][-1]
