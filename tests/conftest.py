"""What every test shares: properties without deadlines, because CI machines are slow at times and wrong numbers are not."""

from hypothesis import HealthCheck, settings

settings.register_profile("quarterdeck", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quarterdeck")
