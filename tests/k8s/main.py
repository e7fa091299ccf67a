"""Runs the tests of this directory and says how many there were, in the form of cargo's last line."""

import sys
import time
import unittest
from pathlib import Path

import engines


def main(names):
    loader = unittest.defaultTestLoader
    if names:
        suite = loader.loadTestsFromNames([f"test_{name}" for name in names])
    else:
        suite = loader.discover(str(Path(__file__).parent))
    print(f"with {engines.engine_versions()}", flush=True)
    begun = time.monotonic()
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    broken = len({test.id().split(" ")[0] for test, _ in result.failures + result.errors} | {
        test.id() for test in result.unexpectedSuccesses
    })
    ignored = len(result.skipped)
    passed = max(result.testsRun - broken - ignored, 0)
    verdict = "ok" if passed > 0 and broken == 0 and ignored == 0 else "FAILED"
    print(f"{time.monotonic() - begun:.1f} s")
    print(f"test result: {verdict}. {passed} passed; {broken} failed; {ignored} ignored")
    return 0 if verdict == "ok" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
