"""What a kill leaves of an upload: parts that no list shows and that cost room until somebody removes them.

obstore neither lists nor ends the uploads of another process; so a folder is looked through, and an S3 bucket is
asked in its own words.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import httpx
import structlog

from trsp_jobs.errors import StoreUnavailable

log = structlog.get_logger(__name__)

_STAGED = re.compile(r".+#\d+")
"""How obstore names the file that a put into a folder is written to before it is moved to its place."""
_SECONDS = 30
_NOTHING = ("NoSuchUpload", "NotImplemented")
"""Codes of servers that have no such upload, or none at all, or do not tell."""
_EMPTY = hashlib.sha256(b"").hexdigest()


class Uploads(Protocol):
    """The uploads into one store that have neither ended nor been given up."""

    def abort(self, seconds: float) -> int:
        """Remove those that were begun at least so many seconds ago; return how many there were.

        Raises:
            StoreUnavailable: If the store does not answer.
        """


class NoUploads:
    """A store that keeps nothing of an upload that broke off."""

    def abort(self, _: float) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True, slots=True)
class FolderUploads:
    """Uploads into a folder: files beside the place that they were to have."""

    root: Path

    def abort(self, seconds: float) -> int:
        """Remove files that were not written to for so many seconds."""
        oldest = time.time() - seconds
        old = [path for path in self._staged() if path.stat().st_mtime <= oldest]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _staged(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self.root):
            yield from (Path(folder) / name for name in names if _STAGED.fullmatch(name))


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs a request to S3."""

    key_id: str
    secret: str
    token: str | None = None

    @classmethod
    def from_environment(cls) -> Credentials | None:
        """Return the pair in Amazon's usual variables; None without one."""
        key_id, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        return cls(key_id, secret, os.environ.get("AWS_SESSION_TOKEN")) if key_id and secret else None


@dataclass(frozen=True, slots=True)
class BucketUploads:
    """Multipart uploads into a folder of an S3 bucket.

    Attributes:
        address: The bucket's, such as https://HOST/BUCKET.
        prefix: The folder, without a slash at its end; empty for the whole bucket.
        region: The bucket's.
        credentials: None where they come from the machine's own role, which only obstore can read; then a
            lifecycle rule of the bucket has to do this.
    """

    address: str
    prefix: str
    region: str
    credentials: Credentials | None

    def abort(self, seconds: float) -> int:
        """Ask for the uploads and end those that were begun so many seconds ago."""
        if self.credentials is None:
            log.warning("broken uploads are left to a lifecycle rule of the bucket: no key pair is set")
            return 0
        oldest = datetime.now(UTC) - timedelta(seconds=seconds)
        with httpx.Client(timeout=_SECONDS) as http:
            old = [(key, upload) for key, upload, begun in self._listed(http) if begun <= oldest]
            for key, upload in old:
                self._send(http, "DELETE", f"/{quote(key)}", {"uploadId": upload})
        return len(old)

    def _listed(self, http: httpx.Client) -> Iterator[tuple[str, str, datetime]]:
        query = {"uploads": "", "prefix": f"{self.prefix}/" if self.prefix else ""}
        while True:
            answer = self._send(http, "GET", "", query)
            if not answer:
                return
            page = ET.fromstring(answer)  # noqa: S314 - the operator's own store
            space = page.tag.partition("}")[0] + "}" if page.tag.startswith("{") else ""
            for item in page.iter(f"{space}Upload"):
                begun = datetime.fromisoformat(item.findtext(f"{space}Initiated", "").replace("Z", "+00:00"))
                yield item.findtext(f"{space}Key", ""), item.findtext(f"{space}UploadId", ""), begun
            if page.findtext(f"{space}IsTruncated") != "true":
                return
            query["key-marker"] = page.findtext(f"{space}NextKeyMarker", "")
            query["upload-id-marker"] = page.findtext(f"{space}NextUploadIdMarker", "")

    def _send(self, http: httpx.Client, method: str, path: str, query: Mapping[str, str]) -> bytes:
        """Send a request and return the answer; nothing where the server says that there is no upload."""
        text = "&".join(f"{quote(name)}={quote(query[name], safe='')}" for name in sorted(query))
        url = f"{self.address}{path}?{text}"
        try:
            answer = http.request(method, url, headers=self._signed(method, url, datetime.now(UTC)))
        except httpx.HTTPError as error:
            raise StoreUnavailable(f"the artifact store does not answer: {error}") from error
        if answer.is_success:
            return answer.content
        if any(code in answer.text for code in _NOTHING):
            return b""
        raise StoreUnavailable(f"the artifact store answered {answer.status_code}: {answer.text[:200]}")

    def _signed(self, method: str, url: str, now: datetime) -> dict[str, str]:
        """Return the headers that sign a request without a body (Amazon's signature version 4)."""
        if self.credentials is None:
            return {}
        parts, stamp = urlsplit(url), now.strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
        if self.credentials.token:
            headers["x-amz-security-token"] = self.credentials.token
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = f"{method}\n{parts.path}\n{parts.query}\n{lines}\n{names}\n{_EMPTY}"
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = _mac(self._key(stamp[:8]), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}").hex()
        given = f"Credential={self.credentials.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**headers, "authorization": f"AWS4-HMAC-SHA256 {given}"}

    def _key(self, day: str) -> bytes:
        key = f"AWS4{self.credentials.secret}".encode() if self.credentials else b""
        for part in (day, self.region, "s3", "aws4_request"):
            key = _mac(key, part)
        return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
