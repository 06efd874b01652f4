"""Deaths of a worker at moments of a change that no test could time from outside.

Written as ``sitecustomize.py`` where Spooky's processes find it: the worker of slot 0 dies at the
moment that ``DEATHS`` gives for a generation's number.
"""

import json
import os
import signal
import sys
import time

DEATHS = {
    int(number): moment for number, moment in json.loads(os.environ.get("DEATHS", "{}")).items()
}
SLOT = 0


def in_the_worker() -> None:
    """Die on the message that asks to prepare a change."""
    from spooky.edge.agent import Agent

    start, prepare = Agent._start, Agent._prepare
    slots = []

    def note_slot(self, message, descriptors):
        slots.append(message.slot)
        start(self, message, descriptors)

    def prepare_or_die(self, message, descriptors):
        if slots == [SLOT] and DEATHS.get(message.generation) == "prepare":
            os._exit(1)
        prepare(self, message, descriptors)

    Agent._start, Agent._prepare = note_slot, prepare_or_die


def in_the_supervisor() -> None:
    """Kill the worker after its acknowledgement: heard of, unheard of, or after the commit word."""
    from spooky.control import pauses
    from spooky.control.changes import Changes
    from spooky.control.crew import Crew
    from spooky.control.history import History

    pauses.REPLACE_DELAY_MAX = pauses.REPLACE_DELAY_MIN
    crews = []
    make_crew, make_changes, write = Crew.__init__, Changes.__init__, History.write

    def note_crew(self, *arguments):
        make_crew(self, *arguments)
        crews.append(self)

    def has(pid, state):
        # Left as it is for whoever waits for the process.
        os.waitid(os.P_PID, pid, state | os.WNOWAIT)

    def kill():
        pid = crews[0].pids[SLOT]
        os.kill(pid, signal.SIGKILL)
        has(pid, os.WEXITED)

    def write_meanwhile(self, record):
        # In a thread: the supervisor hears of the death before the history is written.
        if DEATHS.get(record.number) == "acknowledged":
            pid = crews[0].pids[SLOT]
            os.kill(pid, signal.SIGKILL)
            while crews[0].pids.get(SLOT) == pid:
                time.sleep(0.001)
        write(self, record)

    class Word:
        """The shared segment, with a death before or after its word is stored."""

        def __init__(self, segment):
            self.segment = segment

        def __getattr__(self, name):
            return getattr(self.segment, name)

        def commit(self, number):
            moment = DEATHS.get(number)
            if moment == "before the word":
                kill()
            if moment == "after the word":
                pid = crews[0].pids[SLOT]
                os.kill(pid, signal.SIGSTOP)
                # From here on it reads nothing.
                has(pid, os.WSTOPPED)
            self.segment.commit(number)
            if moment == "after the word":
                kill()

    def with_deaths(self, candidate, record, history, segment, participants):
        make_changes(self, candidate, record, history, Word(segment), participants)

    Crew.__init__, Changes.__init__, History.write = note_crew, with_deaths, write_meanwhile


if "serve" in sys.orig_argv:
    in_the_supervisor()
elif "spooky.edge.process" in sys.orig_argv:
    in_the_worker()
