"""What tests of the lake share: an object store."""

from tests.fakes import s3 as fake

s3, s3_endpoint, s3_settings = fake.s3, fake.s3_endpoint, fake.s3_settings
