"""Prometheus behind the port, and what speaks its API: Thanos, Mimir, VictoriaMetrics."""
