"""The whole system on one machine: servers, store and workers, started and stopped together."""
