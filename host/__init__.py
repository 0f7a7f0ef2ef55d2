"""Cloud and gateway in one process: the only package that may import both."""
