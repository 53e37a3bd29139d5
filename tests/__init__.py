"""The tests, as a package: they share ``tests.factories`` and what stands beside them without a test of its own."""
