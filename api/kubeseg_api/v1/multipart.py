"""The file of a form, as a stream: nothing is kept in memory or in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from kubeseg_api.errors import BadRequestError


class _FileField:
    """Collects the chunks of the first part that has a file name."""

    def __init__(self, boundary: bytes) -> None:
        self.chunks: list[bytes] = []
        self.found = False
        self._in_file = False
        self._header = b""
        self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._more,
                "on_header_end": self._end_header,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )

    def feed(self, data: bytes) -> list[bytes]:
        """Parses `data`; the chunks of the file in it."""
        self.chunks = []
        self._parser.write(data)
        return self.chunks

    def finish(self) -> None:
        """Raises FormParserError where the form is not complete."""
        self._parser.finalize()

    def _begin(self) -> None:
        self._in_file = False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._in_file = b"filename" in options and not self.found
        self._header = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.chunks.append(data[start:end])

    def _end(self) -> None:
        self.found = self.found or self._in_file
        self._in_file = False


def boundary_of(content_type: str | None) -> bytes | None:
    """The boundary where `content_type` is multipart/form-data, else None."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary") if kind == b"multipart/form-data" else None


async def file_of(boundary: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The content of the form's first file. Raises BadRequestError where it has none."""
    field = _FileField(boundary)
    try:
        async for data in body:
            for chunk in field.feed(data):
                yield chunk
        field.finish()
    except FormParserError as error:
        raise BadRequestError(f"the form can't be read: {error}", kind="bad-form") from error
    if not field.found:
        raise BadRequestError(
            "the form has no file: send the ZIP as a file field, or as the body of a PUT",
            kind="bad-form",
        )
