"""The neighbour graph: how it is built and joined, how rows are tied to it, and the shortest paths along it."""
