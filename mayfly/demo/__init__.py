"""The demo: one session from nothing to gone, told on a local cloud with the real Pulumi engine."""
