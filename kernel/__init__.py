"""The shared kernel: pure, small, imported by every program. It does no I/O and knows no program."""
