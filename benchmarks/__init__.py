"""What dnmf costs, and against whom: ``python -m benchmarks NAME`` in a clone of the project."""
