"""`scripts/soak`: real processes in network namespaces, faults from a seed, and a judge that shares no code with the product."""
