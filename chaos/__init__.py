"""The service while databases, workers and servers are killed, and with more load than it can take: `make chaos`."""
