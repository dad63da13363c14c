"""The HTTP side: heartbeats, leases, blobs, and results that wait in an outbox for delivery."""
