"""The data plane's decisions, sans I/O: ``Broker.handle(input, now_ns) -> effects``."""
