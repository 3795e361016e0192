"""Progress of long work as plain lines: the step of how many, the loss, the time left."""

import time


def minutes(seconds: float) -> str:
    """A duration for people: '45 s', '12 min', '2 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 60 else f"{whole // 60} h {whole % 60:02d} min"


class Progress:
    """Prints a line at most every `every` seconds, and one at the end."""

    def __init__(self, label: str, total: int, start: int = 0, every: float = 5.0) -> None:
        self.label, self.total, self.first, self.every = label, total, start, every
        self.began = self.printed = time.monotonic()

    def step(self, done: int, loss: float) -> None:
        """Reports that `done` of the steps are done, the last with this loss."""
        now = time.monotonic()
        if now - self.printed < self.every and done < self.total:
            return
        self.printed = now
        left = (now - self.began) / max(1, done - self.first) * (self.total - done)
        print(f"{self.label}: step {done}/{self.total}, loss {loss:.3f}, {minutes(left)} left", flush=True)

    def count(self, done: int, what: str) -> None:
        """Reports that `done` of so many things are done."""
        if self.due(done):
            now = time.monotonic()
            self.printed, left = now, (now - self.began) / done * (self.total - done)
            print(f"{self.label}: {done}/{self.total} {what}, {minutes(left)} left", flush=True)

    def due(self, done: int) -> bool:
        """True when `step` would print: so that the loss is fetched from the device only then."""
        return time.monotonic() - self.printed >= self.every or done >= self.total
