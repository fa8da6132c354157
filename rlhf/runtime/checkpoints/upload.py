"""Copies of finished checkpoints in another place, made while training goes on. A failure is an alarm, not an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from rlhf.config import CheckpointConfig
from rlhf.errors import RunError
from rlhf.runtime.checkpoints.keeping import kept
from rlhf.runtime.checkpoints.manifest import MANIFEST, DamagedCheckpoint, Manifest, Origin, read_manifest
from rlhf.runtime.checkpoints.remote import LINES, RemoteFolder, one_line

_PAUSES = (1.0, 5.0, 20.0, 60.0)
"""Seconds before each further try."""
_PROGRESS_SECONDS = 10.0


class Uploads:
    """One thread that copies the newest checkpoint; one that waits is given up for a newer one."""

    def __init__(
        self,
        url: str,
        config: CheckpointConfig,
        origin: Origin,
        stage_folder: Path,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        self.remote = RemoteFolder(url, origin)
        self._config, self._lines, self._pauses = config, [stage_folder / name for name in LINES], tuple(pauses)
        self._lock = threading.Lock()
        self._waiting: Path | None = None
        self._current: Path | None = None
        self._thread: threading.Thread | None = None
        self._bytes_sent, self._bytes_to_send = 0, 0
        self._said: SimpleQueue[str] = SimpleQueue()

    # --- there -------------------------------------------------------------------------------------------------------

    def offer(self, checkpoint: Path) -> None:
        """Copy this one, which must stay as it is while `holding` names it."""
        with self._lock:
            if self._waiting is not None:
                self._said.put(f"{self._waiting.name} is not uploaded: {checkpoint.name} is newer")
            self._waiting = checkpoint
            if self._thread is None:
                # A daemon: who leaves at once, by a second Ctrl-C, does not wait for a network.
                self._thread = threading.Thread(target=self._work, name="checkpoint upload", daemon=True)
                self._thread.start()

    def holding(self) -> set[int]:
        """Steps that are being copied or wait for it."""
        with self._lock:
            return {_step(path) for path in (self._current, self._waiting) if path is not None}

    def tell(self, note: Callable[[str], None]) -> None:
        """Say what has happened since this was last asked, in the thread that asks."""
        while True:
            try:
                note(self._said.get_nowait())
            except Empty:
                return

    def settle(self, note: Callable[[str], None]) -> None:
        """Wait until all is copied or given up, with a line now and then."""
        said = time.monotonic()
        while (thread := self._thread) is not None:
            thread.join(0.1)
            self.tell(note)
            current = self._current
            if current is not None and time.monotonic() - said >= _PROGRESS_SECONDS:
                said = time.monotonic()
                sent, whole = self._bytes_sent / 1e9, self._bytes_to_send / 1e9
                note(f"waiting for the upload of {current.name}: {sent:.2f} of {whole:.2f} GB")
        self.tell(note)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._current, self._waiting = self._waiting, None
                if self._current is None:
                    self._thread = None
                    return
            try:
                self._send(self._current)
            except Exception as error:  # noqa: BLE001 - of a hundred libraries; the run goes on without this copy
                name, why = self._current.name, one_line(error)
                self._said.put(f"ALARM: {name} could not be uploaded to {self.remote.url}: {why}")

    def _send(self, checkpoint: Path) -> None:
        manifest = read_manifest(checkpoint)
        self._bytes_sent, self._bytes_to_send = 0, manifest.total_bytes
        self._patiently(lambda: self.remote.spoil(manifest.step))
        for name, record in manifest.files.items():
            self._put(manifest.step, checkpoint / name, name)
            self._bytes_sent += record.bytes
        for file in self._lines:
            if file.exists():
                self._send_lines(file)
        self._put(manifest.step, checkpoint / MANIFEST, MANIFEST)
        self._said.put(f"{checkpoint.name} is uploaded to {self.remote.url}")
        self._patiently(self._prune)

    def _put(self, step: int, file: Path, name: str) -> None:
        self._patiently(lambda: self.remote.put(step, file, name))

    def _send_lines(self, file: Path) -> None:
        self._patiently(lambda: self.remote.put_lines(file))

    def _prune(self) -> None:
        own = self.remote.look().own
        for step in own.keys() - kept(own.values(), self._config):
            self.remote.remove(step)

    def _patiently(self, do: Callable[[], None]) -> None:
        for pause in self._pauses:
            try:
                do()
            except FileNotFoundError:
                raise  # what was to be sent is gone
            except Exception:  # noqa: BLE001 - of a hundred libraries; the last try shows its own
                time.sleep(pause)
            else:
                return
        do()

    # --- and back ----------------------------------------------------------------------------------------------------

    def fetch_newer(self, than: int, folder: Path, note: Callable[[str], None]) -> int:
        """Bring the newest good checkpoint after step `than` into `folder`; returns its step, or `than`.

        Without one here (`than` 0), not to reach the other place is a `RunError`: the run may be far along there.
        """
        try:
            found = self.remote.look()
        except Exception as error:
            unread = f"{self.remote.url} cannot be read ({one_line(error)})"
            if not than:
                raise RunError(f"no good checkpoint is here, and {unread}") from error
            note(f"ALARM: {unread}: going on from what is here, step {than}")
            return than
        for step, why in found.damaged.items():
            note(f"step-{step} in {self.remote.url} is left alone: {why}")
        for step in sorted((step for step in found.own if step > than), reverse=True):
            if self._fetched(found.own[step], folder, note):
                self.remote.fetch_lines(folder.parent)
                return step
        return than

    def _fetched(self, manifest: Manifest, folder: Path, note: Callable[[str], None]) -> bool:
        note(f"fetching step-{manifest.step} from {self.remote.url} ({manifest.total_bytes / 1e9:.2f} GB)")
        try:
            self.remote.fetch(manifest, folder)
        except DamagedCheckpoint as error:
            note(f"step-{manifest.step} in {self.remote.url} is damaged: {error}")
            return False
        except Exception as error:
            raise RunError(
                f"step-{manifest.step} cannot be fetched from {self.remote.url}: {one_line(error)}"
            ) from error
        return True


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))
