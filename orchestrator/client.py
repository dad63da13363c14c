"""The Python client of the API for people; it is what the command line uses."""

from __future__ import annotations

import contextlib
import hashlib
import math
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from agent import tls
from orchestrator.client_file import CLIENT_FILE, read_client_file
from orchestrator.domain.errors import FarmError, NotAllowed, UserError
from orchestrator.report.schema import SweepReport
from orchestrator.savedmodel_archive import packed_savedmodel
from orchestrator.service.views import (
    BrokerUsersView,
    ControllerView,
    DeletedView,
    DeviceView,
    EventView,
    HealthCheckView,
    JoinView,
    ModelView,
    NewTokenView,
    PlanView,
    RemovedModelView,
    RetiredView,
    SweepView,
    TokenView,
)
from orchestrator.settings import Settings

T = TypeVar("T")

ADD_MODEL_S = 1260.0
"""How long a registration may take: two runs of the reference, of at most ten minutes each."""

USER_STATUS = frozenset({404, 409, 422})


class NoController(FarmError):
    """Nothing answers at the controller's address."""

    kind = "no_controller"
    transient = True


class Client:
    """One controller, one person's token; a context manager.

    Every method raises ``UserError`` where the input was wrong, ``NotAllowed`` where the token does
    not permit it, ``NoController`` where nothing answers, and otherwise ``FarmError``.
    """

    def __init__(self, url: str, token: str, ca_file: str = "") -> None:
        self.url, self.ca_file = _require_url(url), ca_file
        if not token.isascii():
            raise NotAllowed("the token is unknown: a token has no such letters (BENCHFARM_TOKEN)")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(60.0, connect=5.0),
            verify=_trusting(ca_file),
        )

    @classmethod
    def from_home(cls, settings: Settings, url: str = "", token: str = "") -> Client:
        """The controller of ``url`` and ``token``, else that of ``client.json`` in the home."""
        path = settings.home / CLIENT_FILE
        found = {} if url and token else read_client_file(path)
        ca_file = settings.ca_path or found.get("ca_file", "")
        url, token = url or found.get("url", ""), token or found.get("token", "")
        if not url or not token:
            raise NoController(
                f"no controller is known ({path} is not there); start one with "
                "`benchfarm up --local-agent`, or name one: BENCHFARM_URL and BENCHFARM_TOKEN"
            )
        return cls(url, token, ca_file)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._http.close()

    def controller(self) -> ControllerView:
        return self._read(ControllerView, "GET", "/controller")

    def authority(self) -> str:
        """The certificates (PEM) that boards must trust for controller and broker: the authority
        that this client was given, and the controller's. Empty: what a board trusts suffices."""
        own = Path(self.ca_file).read_text("utf-8") if self.ca_file else ""
        # a controller of an older release does not tell
        answer = self._send("GET", "/controller/authority", accept=(404,))
        theirs = answer.text if answer.is_success else ""
        return own if theirs in own else own + theirs

    def devices(self) -> list[DeviceView]:
        return self._read(list[DeviceView], "GET", "/devices")

    def device(self, name: str) -> DeviceView:
        return self._read(DeviceView, "GET", f"/devices/{_path_segment('device', name)}")

    def find_device(self, name: str) -> DeviceView | None:
        """The device, or ``None`` where there is none of that name."""
        answer = self._send("GET", f"/devices/{_path_segment('device', name)}", accept=(404,))
        return None if answer.status_code == 404 else DeviceView.model_validate_json(answer.content)

    def join_token(
        self,
        name: str,
        device_class: str = "",
        tags: Mapping[str, str] | None = None,
        again: bool = False,
    ) -> JoinView:
        body = {"device_class": device_class, "tags": dict(tags or {}), "again": again}
        return self._read(
            JoinView, "POST", f"/devices/{_path_segment('device', name)}/join-token", json=body
        )

    def retire(self, name: str) -> RetiredView:
        """The device's tokens are refused from now on, and its open trials cancelled."""
        return self._read(RetiredView, "DELETE", f"/devices/{_path_segment('device', name)}")

    def classify(self, name: str, device_class: str) -> DeviceView:
        path = f"/devices/{_path_segment('device', name)}/class"
        return self._read(DeviceView, "POST", path, json={"device_class": device_class})

    def rotate(self, name: str) -> JoinView:
        """The device's token and broker password are refused from now on; the answer lets it join
        again."""
        return self._read(JoinView, "POST", f"/devices/{_path_segment('device', name)}/rotate")

    def rename(self, name: str, to: str) -> JoinView:
        """The device's token is refused from now on; the answer lets it join as ``to``."""
        path = f"/devices/{_path_segment('device', name)}/rename"
        return self._read(JoinView, "POST", path, json={"name": to})

    def tokens(self) -> list[TokenView]:
        return self._read(list[TokenView], "GET", "/tokens")

    def create_token(self, role: str, name: str, lifetime_s: int | None) -> NewTokenView:
        """Create a person's token; it does not expire where ``lifetime_s`` is ``None``."""
        body = {"role": role, "name": name, "lifetime_s": lifetime_s}
        return self._read(NewTokenView, "POST", "/tokens", json=body)

    def revoke_token(self, token_id: int) -> TokenView:
        return self._read(TokenView, "DELETE", f"/tokens/{token_id}")

    def broker_users(self) -> BrokerUsersView:
        return self._read(BrokerUsersView, "GET", "/broker/users")

    def enable(self, name: str, enabled: bool, note: str = "") -> DeviceView:
        """Give a device work, or none; ``note``: why none."""
        path = f"/devices/{_path_segment('device', name)}/{'enable' if enabled else 'drain'}"
        return self._read(DeviceView, "POST", path, **({"json": {"note": note}} if note else {}))

    def maintain(self, name: str, on: bool) -> DeviceView:
        """Take a device into maintenance, or out of it."""
        path = f"/devices/{_path_segment('device', name)}/maintenance"
        return self._read(DeviceView, "POST", path, json={"on": on})

    def ask_check(self, name: str) -> HealthCheckView:
        """Have a device's health checked now; the check has yet to run."""
        return self._read(
            HealthCheckView, "POST", f"/devices/{_path_segment('device', name)}/checks"
        )

    def checks(self, name: str, limit: int = 20) -> list[HealthCheckView]:
        """A device's health checks, the latest first."""
        path = f"/devices/{_path_segment('device', name)}/checks"
        return self._read(list[HealthCheckView], "GET", path, params={"limit": limit})

    def check(self, name: str, number: int) -> HealthCheckView:
        path = f"/devices/{_path_segment('device', name)}/checks/{number}"
        return self._read(HealthCheckView, "GET", path)

    def tag(self, name: str, tags: Mapping[str, str]) -> DeviceView:
        """Set tags of a device; an empty value removes one."""
        path = f"/devices/{_path_segment('device', name)}/tags"
        return self._read(DeviceView, "POST", path, json={"tags": dict(tags)})

    def models(self) -> list[ModelView]:
        return self._read(list[ModelView], "GET", "/models")

    def model(self, name: str) -> ModelView:
        return self._read(ModelView, "GET", f"/models/{_path_segment('model', name)}")

    def network_svg(self, name: str, form: str = "") -> str:
        """The network as SVG, from the artifact in ``form``, else the first drawable one."""
        path = f"/models/{_path_segment('model', name)}/network"
        return self._send("GET", path, params={"format": form}).text

    def add_model(
        self,
        path: Path,
        name: str = "",
        shapes: Mapping[str, Sequence[int]] | None = None,
        dataset: Path | None = None,
        form: str = "",
        inputs: Sequence[str] = (),
        feeds: Path | None = None,
        task: str = "",
        score_output: str = "",
        threshold: float | None = None,
    ) -> ModelView:
        """Upload and register a model's file, or a SavedModel's folder (and its data set).

        Args:
            form: its format; empty: the file's suffix says it.
            inputs: what inputs are drawn from: ``ids:range=0,30521``, ``shape:values=2,3``.
            feeds: an ``.npz`` of the inputs that its reference outputs are computed on.
            task, score_output, threshold: how outputs are scored against the labels; what is left
                out is found.
        """
        if threshold is not None and not math.isfinite(threshold):  # JSON holds no others
            raise UserError(f"threshold {threshold}: expected a finite number")
        with contextlib.ExitStack() as stack:
            folder = path.is_dir()
            sha256 = self.upload(stack.enter_context(packed_savedmodel(path)) if folder else path)
        body: dict[str, Any] = {
            "name": name or (path.resolve().name if folder else path.stem),
            "file_name": str(path),
            "sha256": sha256,
            "format": form or ("savedmodel" if folder else ""),
            "shapes": {k: list(v) for k, v in (shapes or {}).items()},
            "dataset_name": dataset.name if dataset else "",
            "dataset_sha256": self.upload(dataset) if dataset else "",
        }
        if inputs:  # only where given: a controller of 0.1 knows neither
            body["inputs"] = list(inputs)
        if feeds:
            body |= {"feeds_name": feeds.name, "feeds_sha256": self.upload(feeds)}
        scoring = {"task": task, "score_output": score_output, "threshold": threshold}
        body |= {key: value for key, value in scoring.items() if value not in ("", None)}
        return self._read(ModelView, "POST", "/models", json=body, timeout=ADD_MODEL_S)

    def remove_model(self, name: str, form: str = "") -> RemovedModelView:
        """Forget a model that no sweep uses, or only its file in ``form``."""
        path = f"/models/{_path_segment('model', name)}"
        return self._read(RemovedModelView, "DELETE", path, params={"format": form}, timeout=600.0)

    def upload(self, path: Path) -> str:
        """Upload a file's bytes unless the controller has them; returns their SHA-256."""
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                if self._send("HEAD", f"/blobs/{sha256}", accept=(404,)).status_code != 404:
                    return sha256
                file.seek(0)
                chunks = iter(lambda: file.read(1 << 20), b"")
                self._send("PUT", f"/blobs/{sha256}", content=chunks, timeout=600.0)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        return sha256

    def download(self, sha256: str) -> bytes:
        return self._send("GET", f"/blobs/{sha256}").content

    def fetch(self, sha256: str, path: Path) -> None:
        """Write a blob's bytes to ``path`` as they arrive."""
        try:
            with self._http.stream("GET", f"/blobs/{sha256}", timeout=600.0) as response:
                if not response.is_success:
                    response.read()
                    raise _error(response)
                with path.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def plan(self, text: str, source: str, name: str = "") -> PlanView:
        body = {"text": text, "source": source, "name": name}
        return self._read(PlanView, "POST", "/sweeps/plan", json=body)

    def submit(
        self,
        text: str,
        source: str,
        name: str = "",
        yes_really: bool = False,
        strict: bool = False,
    ) -> SweepView:
        """``strict``: only where every board that the sweep selects would run it now."""
        body = {"text": text, "source": source, "name": name, "yes_really": yes_really}
        body |= {"strict": strict} if strict else {}
        return self._read(SweepView, "POST", "/sweeps", json=body)

    def sweeps(self) -> list[SweepView]:
        return self._read(list[SweepView], "GET", "/sweeps")

    def sweep(self, name: str) -> SweepView:
        return self._read(SweepView, "GET", f"/sweeps/{_path_segment('sweep', name)}")

    def cancel(self, name: str, *, cell: str = "", device: str = "", trial: int = 0) -> SweepView:
        """Cancel a sweep, or only the cells of a name or number, or on a device; ``trial``: only
        that trial of the cell, from 1."""
        path = f"/sweeps/{_path_segment('sweep', name)}/cancel"
        part = {"cell": cell, "device": device, "trial": trial}
        return self._read(SweepView, "POST", path, **({"json": part} if any(part.values()) else {}))

    def resume(self, name: str) -> SweepView:
        return self._read(SweepView, "POST", f"/sweeps/{_path_segment('sweep', name)}/resume")

    def delete_sweep(self, name: str) -> DeletedView:
        return self._read(
            DeletedView, "DELETE", f"/sweeps/{_path_segment('sweep', name)}", timeout=600.0
        )

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 200,
        subject: str = "",
        kind: str = "",
        since: datetime | None = None,
        latest: bool = False,
    ) -> list[EventView]:
        """Events with a greater id than ``after``, oldest first; ``latest``: the last ``limit``."""
        query: dict[str, Any] = {"after": after, "limit": limit, "subject": subject, "kind": kind}
        query |= {"latest": latest} | ({"since": since.isoformat()} if since else {})
        return self._read(list[EventView], "GET", "/events", params=query)

    def report(self, name: str) -> SweepReport:
        return self._read(
            SweepReport, "GET", f"/sweeps/{_path_segment('sweep', name)}/report", timeout=600.0
        )

    def report_text(self, name: str, form: str) -> str:
        """The report as ``html``, ``markdown``, ``csv`` or ``json``."""
        path = f"/sweeps/{_path_segment('sweep', name)}/report"
        return self._send("GET", path, params={"format": form}, timeout=600.0).text

    def cell_samples(self, cell: int) -> bytes:
        """A cell's raw samples as a NumPy file (``report.sample_table``)."""
        path, query = f"/cells/{cell}/samples", {"format": "npy"}
        return self._send("GET", path, params=query, timeout=600.0).content

    def _read(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        return TypeAdapter(kind).validate_json(self._send(method, path, **options).content)

    def _send(
        self, method: str, path: str, *, accept: tuple[int, ...] = (), **options: Any
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except (httpx.TransportError, UnicodeError) as error:
            raise self._unreachable(error) from None
        if response.is_success or response.status_code in accept:
            return response
        raise _error(response)

    def _unreachable(self, error: Exception) -> NoController:
        found = tls.fault(error, authority="BENCHFARM_CA_FILE")
        if found:
            return NoController(f"the controller at {self.url}: {found}")
        ended = isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError))
        if ended and tls.is_meant(self.url):
            return NoController(f"the controller at {self.url} serves https:// there, not http://")
        return NoController(
            f"no controller answers at {self.url} ({type(error).__name__}); "
            "is `benchfarm up` running?"
        )


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return tls.trusting(ca_file)
    except tls.BadAuthority as error:
        raise UserError(f"{error} (BENCHFARM_CA_FILE)") from None


def _require_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"controller address {url!r}: expected http://HOST:PORT (BENCHFARM_URL)")
    return url.rstrip("/")


def _path_segment(noun: str, name: str) -> str:
    """``name`` quoted as one segment of a URL's path. Raises ``UserError``."""
    if name in ("", ".", "..") or "/" in name:
        raise UserError(f"there is no {noun} {name!r}")
    return quote(name, safe="")


def _error(response: httpx.Response) -> FarmError:
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the controller answered {response.status_code}: {response.text[:200]}"
    if response.status_code in USER_STATUS:
        return UserError(message)
    return NotAllowed(message) if response.status_code == 403 else FarmError(message)
