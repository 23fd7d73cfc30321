-- One row per successful production deployment and objective: budget burnt after it less budget burnt before it.
-- Source: metrics.md section 4, row 10.
SELECT service AS subject,
       day,
       excluded,
       impact_trillionths AS amount_trillionths,
       deployment_key AS cluster,
       deployment_key,
       slo,
       began_at,
       ended_at,
       base_at,
       remaining_base,
       before_at,
       remaining_before,
       after_at,
       remaining_after
FROM budget_impacts
