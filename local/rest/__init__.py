"""The REST fake: Google's APIs on one port, checked against Google's own discovery documents."""
