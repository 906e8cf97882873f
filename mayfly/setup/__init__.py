"""What lies outside every stack: APIs, state bucket, key, hub token, the reaper's engine, login."""
