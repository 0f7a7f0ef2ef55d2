"""The REST gateway: HTTP and JSON outside, gRPC inside, everything in between read from the descriptor file. Holds no state."""
