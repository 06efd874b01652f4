"""Run the parts of ``make test`` in order, each timed against its budget.

Needs nothing but the standard library: the first part installs the rest. A part that fails does not
stop the ones after it, unless they stand on it. One over its budget is called out, and one that
takes twice its budget is ended, so that no hang holds up CI. The last part is the main pytest run,
so its closing line is the last one printed when all went well.
"""

import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

HANG_FACTOR = 2
"""A part is ended after this many times its budget."""


class Part(NamedTuple):
    """One step of the suite.

    Attributes:
        target: The make target that runs it.
        budget_s: How long it may take on a machine of two cores, in seconds.
        needed: Whether the parts after it make no sense when it failed.
    """

    target: str
    budget_s: int
    needed: bool = False


PARTS = (
    Part("test-install", 60, needed=True),
    Part("lint", 15),
    Part("build", 130, needed=True),
    Part("test-pure", 325),
    Part("test-sanitize", 535),
    Part("test-packaging", 150),
    Part("test-compiled", 950),
)


def run(part: Part) -> bool:
    """Run one part, print how it went, and return whether it passed."""
    print(f"\n== make {part.target} (budget {part.budget_s} s)", flush=True)
    begun = time.monotonic()
    # Its own session, so that whatever it started ends with it.
    process = subprocess.Popen(
        ["make", "--no-print-directory", part.target],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status: int | str = process.wait(part.budget_s * HANG_FACTOR)
    except subprocess.TimeoutExpired:
        status = f"ended after {HANG_FACTOR} times its budget"
    finally:
        end_session(process)
    took_s = time.monotonic() - begun
    if status != 0:
        print(f"== {part.target} FAILED after {took_s:.0f} s: {status}", flush=True)
    elif took_s > part.budget_s:
        print(f"== {part.target} OVER BUDGET: {took_s:.0f} s of {part.budget_s} s", flush=True)
    elif part is not PARTS[-1]:
        print(f"== {part.target} passed in {took_s:.0f} s", flush=True)
    return status == 0


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End what a part left running."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def main() -> None:
    """Run all parts; exit 1 and name them when any failed."""
    # Ended from outside, end the part too: as an exception this passes the `finally` of `run`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = []
    for part in PARTS:
        if not run(part):
            failed.append(part.target)
            if part.needed:
                break
    if failed:
        sys.exit(f"\nFAILED: {', '.join(failed)}")


if __name__ == "__main__":
    main()
