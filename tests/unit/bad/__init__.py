"""What the tests of bad input feed to the program, by command."""

from tests.unit.bad import archives, flows, ladders, recordings, running

CASES = [*running.CASES, *ladders.CASES, *archives.CASES, *recordings.CASES, *flows.CASES]
