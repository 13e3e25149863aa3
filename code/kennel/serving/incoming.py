"""The bytes of a connection that have come: is a request whole? It is, and only then a thread reads it."""

import re

from gunicorn.http.unreader import SocketUnreader

LONGEST_HEAD = 2**16  # bytes of a first line and headers; the platform's are a few hundred (contract C1.9)
_AHEAD = 2**20  # bytes that gunicorn's parser asks for at once: with fewer it does not see that there are too many
_RECEIVE = 2**18  # bytes taken from a socket at once
_CHUNK_SIZE = re.compile(rb"([0-9a-f]{1,15})[ \t]*(;|$)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked")
_CONTINUE = re.compile(rb"\r\nexpect:[ \t]*100-continue")


class HeadTooLong(Exception):
    """The headers do not end."""


class Incoming(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """What a connection's parser reads from, without ever waiting for the client.

    It only looks for the end of a request. What the request says is for gunicorn's parser, which sees every byte;
    should the two disagree on its end, the parser finds the connection closed.
    """

    def __init__(self, sock: object, longest_body: int) -> None:
        super().__init__(sock)
        self._longest_body = longest_body
        self._received = bytearray()
        self._read = 0  # bytes of them that the parser has taken
        self.begin()

    def begin(self) -> None:
        """Expect the next request, of which some bytes may be here already."""
        self._received = bytearray(self.take_buffered()) + self._received[self._read :]
        self._read = 0
        self._body: int | None = None  # where the body begins, once the headers are whole
        self._end: int | None = None  # where it ends; None as long as only the next chunk's place is known
        self._chunk = 0  # where the next chunk begins
        self._framing = 0  # bytes around the chunks so far
        self.is_whole = False
        self.wants_continue = False  # the client waits for a word before it sends the body

    @property
    def size(self) -> int:
        """Bytes that were received and not read."""
        return len(self._received) - self._read

    def receive(self) -> bool:
        """Take what has come, and return False when nothing more will. Raises BlockingIOError when nothing has."""
        data = self.sock.recv(_RECEIVE)
        self._received += data
        return bool(data)

    def is_ready(self) -> bool:
        """Return whether a thread can answer the request: it is whole, or too large anyway.

        Raises HeadTooLong.
        """
        if self._body is None and not self._look_for_body():
            return False
        if self._end is None:
            self._walk_chunks()
        self.is_whole = self._end is not None and len(self._received) >= self._end
        return self.is_whole or self._is_too_large()

    def _is_too_large(self) -> bool:
        begin = self._body or 0
        if self._end is not None:
            return self._end - begin > self._longest_body
        return len(self._received) - begin - self._framing > self._longest_body + _AHEAD

    def _look_for_body(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or end > LONGEST_HEAD:
            if len(self._received) > LONGEST_HEAD:
                raise HeadTooLong(f"the headers are longer than {LONGEST_HEAD // 2**10} KB")
            return False
        self._body = self._chunk = end + 4
        head = bytes(self._received[: end + 2]).lower()
        if not _CHUNKED.search(head):
            length = _LENGTH.search(head)
            self._end = self._body + (int(length[1]) if length else 0)
        self.wants_continue = _CONTINUE.search(head) is not None
        return True

    def _walk_chunks(self) -> None:
        """Go from chunk to chunk as far as they have come; what is no chunk ends the request, for the parser to say."""
        while (line_end := self._received.find(b"\r\n", self._chunk, self._chunk + LONGEST_HEAD)) >= 0:
            size = _CHUNK_SIZE.match(self._received[self._chunk : line_end])
            if not size:
                self._end = len(self._received)
                return
            length = int(size[1], 16)
            if length == 0:
                break
            self._framing += line_end + 2 - self._chunk + 2
            self._chunk = line_end + 2 + length + 2
        if line_end >= 0:  # of the last chunk; there may be trailers, and there is an empty line
            end = self._received.find(b"\r\n\r\n", line_end, line_end + LONGEST_HEAD)
            self._end = None if end < 0 else end + 4
        if self._end is None and len(self._received) > self._chunk + 2 * LONGEST_HEAD:  # one of the two does not end
            self._end = len(self._received)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """See gunicorn: the next piece, at most about as large as is hinted; empty at the end."""
        size = min(max(size_hint or 0, self.mxchunk), self.max_body_chunk)
        piece = bytes(self._received[self._read : self._read + size])
        self._read += len(piece)
        if not self.size:  # a connection that is kept holds no body
            self._received.clear()
            self._read = 0
        return piece
