"""The metric registry, one SQL file per indicator, measuring and explaining."""
