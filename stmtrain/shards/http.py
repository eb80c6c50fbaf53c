"""HTTP for fsspec: a URL is sent byte for byte, and an answer is read up to a limit."""

from typing import Any
from urllib.parse import quote

import yarl
from fsspec.implementations.http import HTTPFileSystem

_LEGAL = "%/:=&?~#+!$,;'@()*[]"


class BoundedHTTP(HTTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """fsspec's HTTP, for servers that sign URLs, and for those that send more than is needed."""

    def __init__(self) -> None:
        """Make no request; redirects are followed byte for byte too."""
        super().__init__(skip_instance_cache=True, client_kwargs={"requote_redirect_url": False})

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, *, most: int, **_: Any
    ) -> bytes:
        """Return the bytes ``[start, end)`` of a file, or all; of each answer ``most + 1`` at most.

        A server may compress although it is asked not to, so the limit counts decompressed bytes.
        """
        headers = {"Accept-Encoding": "identity"}
        if start is not None and end is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
        session = await self.set_session()
        data = bytearray()
        async with session.get(self.encode_url(url), headers=headers) as answer:
            self._raise_not_found_for_status(answer, url)
            async for piece in answer.content.iter_any():
                data += piece
                if len(data) > most:
                    break
        return bytes(data[: most + 1])

    def encode_url(self, url: str) -> yarl.URL:
        """Quote what a URL must not contain, such as a space, and leave every other byte."""
        return yarl.URL(quote(url, safe=_LEGAL), encoded=True)
