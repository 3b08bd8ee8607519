"""Progress of work in stages: a bar on a terminal, a few lines per stage elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["stages"]


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function of (what is being done, steps done, steps in all) that shows it on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        shown: dict[str, int] = {}

        def line(stage: str, done: int, total: int) -> None:
            """At most ten lines a stage."""
            tenth = 10 * done // max(1, total)
            if shown.get(stage) != tenth:
                shown[stage] = tenth
                console.print(f"[{done}/{total}] {stage}", markup=False, highlight=False)

        yield line
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:16}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("start", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)
