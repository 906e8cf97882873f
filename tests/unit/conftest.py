"""Property tests take the time a loaded machine gives them: slow is not wrong."""

from hypothesis import HealthCheck, settings

settings.register_profile("mayfly", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mayfly")
