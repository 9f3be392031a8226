"""TensorBoard's files of events, written by the caller itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from tensorboardX import SummaryWriter
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from lrm_align.errors import cannot_write
from lrm_align.objectives import histogram


class Board:
    """Scalars and histograms of steps, for TensorBoard and whatever mirrors it.

    Args:
      directory: of the event files.
      start: the first step to come; TensorBoard hides what earlier files say of it and later ones. 0 hides nothing.

    Raises:
      CannotWriteError: the directory cannot be written; so do all methods.
    """

    def __init__(self, directory: epath.PathLike, start: int = 0):
        self._directory = directory
        try:
            self._board = SummaryWriter(str(directory))
            writer = self._board.file_writer
            writer.event_writer.close()
            writer.event_writer = _Events(str(directory))
            if start:
                writer.add_event(Event(step=start, session_log=SessionLog(status=SessionLog.START)))
        except OSError as error:
            raise cannot_write(directory, error) from error

    def add(self, step: int, row: Mapping[str, float], counts: Mapping[str, list[float]]) -> None:
        """Adds what is known of a step."""
        try:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)
            for name, count in counts.items():
                self._add_histogram(name, np.array(count), step)
        except OSError as error:
            raise cannot_write(self._directory, error) from error

    def _add_histogram(self, name: str, count: np.ndarray, step: int) -> None:
        limits = np.array([*histogram.EDGES, 2 * histogram.EDGES[-1]])  # the last bin is open; TensorBoard wants an end
        self._board.add_histogram_raw(
            name,
            min=-limits[-1],
            max=limits[-1],
            num=count.sum(),
            sum=count @ limits,
            sum_squares=count @ limits**2,
            bucket_limits=limits.tolist(),
            bucket_counts=count.tolist(),
            global_step=step,
        )

    def flush(self) -> None:
        """Brings everything down to the device."""
        try:
            self._board.flush()
        except OSError as error:
            raise cannot_write(self._directory, error) from error

    def close(self) -> None:
        """Ends; what was added is written."""
        try:
            self._board.close()
        except OSError as error:
            raise cannot_write(self._directory, error) from error


class _Events:
    """Stands where tensorboardX has a thread with a queue.

    That thread ends silently at the first error, as of a full disk, and who fills its queue then waits for ever.
    """

    def __init__(self, directory: str):
        self._directory = directory
        self._file: EventsWriter | None = EventsWriter(f"{directory}/events")

    def get_logdir(self) -> str:
        """The directory."""
        return self._directory

    def add_event(self, event: Any) -> None:
        """Writes an event."""
        if self._file is not None:
            self._file.write_event(event)

    def flush(self) -> None:
        """Brings everything down to the device."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Ends; called again, as tensorboardX does at the end of the process, it does nothing."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
