"""Which instance takes an event: the routing table and the Router that gateway and clients share (pure)."""
