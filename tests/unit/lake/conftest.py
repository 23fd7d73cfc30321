"""What tests of the lake share: an object store."""

from tests.fakes.s3 import s3, s3_endpoint, s3_settings

__all__ = ["s3", "s3_endpoint", "s3_settings"]
