"""The peers: other buses, each server started for the bench on loopback with a directory of its own."""
