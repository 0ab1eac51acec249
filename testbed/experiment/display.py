"""What the command line shows while an experiment runs."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from testbed.experiment.progress import Progress


class Display:
    """Progress bar with a rate on a terminal, and the lines of finished steps everywhere."""

    def __init__(self, num_samples: int, quiet: bool) -> None:
        self._console = Console(stderr=quiet, highlight=False, soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=num_samples, rate="")
        self._warned: set[str] = set()  # a fault that stays is said once

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question: no bar is drawn over it, and it goes on afterwards."""
        self._bar.stop()
        yield
        self._bar.start()  # not after a failure: nothing follows then

    def notify(self, progress: Progress) -> None:
        """Show what the run tells."""
        task = self._bar.tasks[0]
        rate = f"{task.speed / 1e6:.1f} Msamples/s" if task.speed else ""
        self._bar.update(self._task, advance=progress.num_samples, description=progress.doing, rate=rate)
        for warning in dict.fromkeys(progress.warnings):
            if warning in self._warned:
                continue
            self._warned.add(warning)
            self._console.print(f"warning: {warning}")
        for line in progress.lines:
            self._console.print(line, markup=False)
