"""What the project needs and git does not hold, brought to this machine once."""
