"""The client: one session per bus instance, publishing, subscribing, and a blocking façade (needs no Ray)."""
