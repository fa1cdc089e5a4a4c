"""The gateway: HTTP, Server-Sent Events, the schema registry and the dashboard, on Ray Serve."""
