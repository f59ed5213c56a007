"""How far it is: a bar with rich in a terminal, lines elsewhere."""

from __future__ import annotations

from typing import Any, Callable


class Lines:
    """A `Watcher` that says each thing in a line."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._steps = 0
        self._done = 0
        self._name = ""

    def begin(self, steps: int) -> None:
        self._steps = steps

    def step(self, name: str) -> None:
        self._done += 1
        self._name = name

    def found(self, line: str) -> None:
        self._say(f"[{self._done}/{self._steps}] {self._name.partition(':')[0]}: {line}")

    def problem(self, line: str) -> None:
        self._say(f"[{self._done}/{self._steps}] problem: {line}")

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class Bar:
    """A `Watcher` that draws a bar, with what is being measured, and the time that is left. Needs rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        # Drawn twice a second: each time costs CPU that the server under test could use.
        self._progress: Any = Progress(*columns, console=Console(stderr=True), refresh_per_second=2)
        self._task: Any = None

    def begin(self, steps: int) -> None:
        self._task = self._progress.add_task("", total=steps, completed=-1)

    def step(self, name: str) -> None:
        self._progress.update(self._task, advance=1, description=name)

    def found(self, line: str) -> None:
        pass  # the bar says enough; the table comes at the end

    def problem(self, line: str) -> None:
        self._progress.console.print(f"problem: {line}", markup=False)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()
